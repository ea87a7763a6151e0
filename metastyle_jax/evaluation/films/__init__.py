"""What is measured of stylized films."""
