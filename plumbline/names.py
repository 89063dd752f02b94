"""The values of the protos' enums in words."""

from __future__ import annotations

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


def short_name(enum: EnumTypeWrapper, value: int) -> str:
    """The name of a value without the prefix that all of its enum's names share: "SPURIOUS" for VERDICT_SPURIOUS."""
    return enum.Name(value).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))
