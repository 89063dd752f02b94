"""The values of the protos' enums in words."""

from __future__ import annotations

from enum import StrEnum

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def short_name(enum: EnumTypeWrapper, value: int) -> str:
    """The name of a value without the prefix that all of its enum's names share: "SPURIOUS" for VERDICT_SPURIOUS."""
    return enum.Name(value).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))


def choices(name: str, enum: EnumTypeWrapper) -> type[StrEnum]:
    """The values but the unspecified one as an enum for a command's option: `low-entropy` of SELECTION_LOW_ENTROPY, its member LOW_ENTROPY."""
    members = [short_name(enum, value) for value in enum.values()[1:]]
    return StrEnum(name, [(member, member.lower().replace("_", "-")) for member in members])
