"""The one exception a user's mistake raises.

Anything else that escapes is a defect of this project and keeps its traceback.
"""


class UserError(Exception):
    """Something the user can mend: a bad setting, a compile error, a missing tool.

    `message` says what is wrong and where (file, key, symbol, address);
    `hint`, if there is one, says what to do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        return (type(self), (self.message, self.hint))


class MissingError(UserError):
    """Something outside this project is not there and could be: a program to install, a network to fetch it by."""
