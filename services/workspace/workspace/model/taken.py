"""What a record takes and never tells."""


class TakesPassword:
    """A password that is given, kept by its model as it sees fit, and told by no message.

    A model says `password = TakesPassword.password`, so that the field of its message becomes no column."""

    # Set while it is being given, until it is sealed or hashed.
    given = ""

    @property
    def password(self) -> str:
        """Taken, never told."""
        return ""

    @password.setter
    def password(self, value: str) -> None:
        self.given = value
