"""What a client sends and is sent: HTTP/1.1 over a socket, bounded on every side."""
