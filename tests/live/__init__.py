"""Conversations with a real server over real sockets. A package, because a file here shares its name with one above."""
