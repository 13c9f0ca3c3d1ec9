"""What a config key is: its type, default, bounds and meaning, and how its text is read.

Values are kept and sent as text, as Kafka does; `ConfigDef.parse` gives them their type.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

ConfigValue = bool | int | float | str | tuple[str, ...]


class ConfigType(IntEnum):
    """Kafka's numbers, as DescribeConfigs sends them (KIP-569)."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


class ConfigSource(IntEnum):
    """Where a value comes from; Kafka's numbers, as DescribeConfigs sends them (KIP-226)."""

    DYNAMIC_TOPIC = 1
    DYNAMIC_BROKER = 2
    DYNAMIC_DEFAULT_BROKER = 3
    STATIC_BROKER = 4
    DEFAULT = 5
    GROUP = 8


class InvalidConfig(ValueError):
    """A value that is no value of its key; the text is fit for the answer to the client."""


@dataclass(frozen=True, slots=True)
class Synonym:
    """A broker config whose value, times `factor`, is the default of a topic config. Kafka changes only the most
    precise unit while it runs, and not every one of those."""

    name: str
    factor: int = 1
    static: bool = False

    @property
    def dynamic(self) -> bool:
        return self.factor == 1 and not self.static


@dataclass(frozen=True, slots=True)
class ConfigDef:
    """One key. `least` and `most` bound numbers, `choices` strings and list members. `check` finds what else is
    wrong with a value.

    `synonyms` come in order of precedence: of a topic config the broker configs that give its default, of a broker
    config the names of the same thing in other units. A key that is not `dynamic` is set in a node's file.
    """

    name: str
    type: ConfigType
    default: str | None
    doc: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[ConfigValue], str | None] | None = None
    synonyms: tuple[Synonym, ...] = ()
    dynamic: bool = True
    sensitive: bool = False

    def parse(self, text: str) -> ConfigValue:
        """The value with its type. Raises InvalidConfig, worded as Kafka words it."""
        value = _PARSERS[self.type](self.name, text)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.least is not None and value < self.least:
                raise InvalidConfig(
                    f"Invalid value {text} for configuration {self.name}: must be at least {self.least}"
                )
            if self.most is not None and value > self.most:
                raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: must be at most {self.most}")
        members = value if isinstance(value, tuple) else (value,)
        for member in members if self.choices else ():
            if member not in self.choices:
                raise InvalidConfig(
                    f"Invalid value {member} for configuration {self.name}: must be one of: {', '.join(self.choices)}"
                )
        wrong = None if self.check is None else self.check(value)
        if wrong is not None:
            raise InvalidConfig(f"Invalid value {text} for configuration {self.name}: {wrong}")
        return value


def _boolean(name: str, text: str) -> bool:
    match text.strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise InvalidConfig(f"Invalid value {text} for configuration {name}: expected value to be either true or false")


def _integer(bits: int) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        # int() also takes "1_000", other scripts' digits, and digits without end: all of them are not Kafka's.
        digits = text.strip()
        unsigned = digits[1:] if digits[:1] in ("+", "-") else digits
        if unsigned.isascii() and unsigned.isdigit() and len(unsigned) <= 19:
            value = int(digits)
            if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
                return value
        raise InvalidConfig(f"Invalid value {text} for configuration {name}: not a number of {bits} bits")

    return parse


def _double(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidConfig(f"Invalid value {text} for configuration {name}: not a number")
    return value


def _list(name: str, text: str) -> tuple[str, ...]:
    return split_list(text)


def _string(name: str, text: str) -> str:
    return text


def split_list(text: str) -> tuple[str, ...]:
    """The members of a comma-separated list; the empty text is the empty list."""
    return tuple(member.strip() for member in text.split(",")) if text.strip() else ()


_PARSERS: dict[ConfigType, Callable[[str, str], ConfigValue]] = {
    ConfigType.BOOLEAN: _boolean,
    ConfigType.STRING: _string,
    ConfigType.INT: _integer(32),
    ConfigType.SHORT: _integer(16),
    ConfigType.LONG: _integer(64),
    ConfigType.DOUBLE: _double,
    ConfigType.LIST: _list,
}
