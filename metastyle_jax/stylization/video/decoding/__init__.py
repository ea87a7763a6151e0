"""Reading frames of films and cameras: streams, times, colours, interlacing."""
