"""Several devices and several processes: divides a step among them, and detects lost processes."""
