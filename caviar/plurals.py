"""Numbers of things in words."""


def counted(number: int, noun: str) -> str:
    """Return how many of something there are.

    Example:
        >>> [counted(number, "trial") for number in (1, 1_200)]
        ['1 trial', '1,200 trials']
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
