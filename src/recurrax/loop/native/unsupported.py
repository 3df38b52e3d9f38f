"""What the native compiler says when it must hand a body back."""


class Unsupported(Exception):
    """A body that cannot be compiled; the message says which part of it and why, for people."""
