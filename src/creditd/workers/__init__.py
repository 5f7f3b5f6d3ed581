"""What runs beside the requests. No answer depends on it: it finishes, tidies and keeps loads short."""
