"""From plain sentences to a specification that a person has confirmed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from plumbline.cli.session import Session, console, failures_told
from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.specification import SentencesFile, dump_specification, load_sentences
from plumbline.whole_files import write_whole

UNKNOWN_CONCEPT = "unknown"
_AT_FAULT = re.compile(r"^sentences\[(\d+)\]")

specification_app = typer.Typer(no_args_is_help=True, help="Make a specification.")


@specification_app.command("compile")
def compile_file(
    context: typer.Context,
    sentences: Annotated[Path, typer.Argument(help="YAML with the task, the classes and sentences per class.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The specification to write.")] = Path("specification.yaml"),
    is_confirmed: Annotated[
        bool, typer.Option("--yes", help="Take the rules as they come, without a person's look.")
    ] = False,
) -> None:
    """Turn plain sentences into rules, show them, and write the specification once they are confirmed."""
    with failures_told():
        told = load_sentences(sentences)
        reply = _compile(context.obj, sentences, told)
    _show(reply.rules)
    action = "replaces" if out.exists() else "writes"
    if not (is_confirmed or typer.confirm(f"Is this what the sentences say? Yes {action} {out}.")):
        console.print("nothing was written; say it in other words and compile again")
        raise typer.Exit(1)
    with failures_told():
        write_whole(out, dump_specification(reply.specification, reply.rules).encode())
    console.print(f"wrote {out}", highlight=False)


def _compile(session: Session, path: Path, told: SentencesFile) -> lvlm_pb.CompileSpecificationResponse:
    """The reply; a refusal names the file and the classes whose words are at fault."""
    with session.client() as client, console.status("asking the language model"):
        try:
            return client.compile(told.task, told.class_names, told.sentences)
        except PlumblineError as error:
            if not error.faults:
                raise
            lines = [f"{path}: {_place(field, told)}: {words}" for field, words in error.faults]
            raise PlumblineError("\n".join(lines), error.code, error.field, error.faults) from error


def _place(field: str, told: SentencesFile) -> str:
    """Where in the file a fault is: the request counts sentences, the file names their classes."""
    found = _AT_FAULT.match(field)
    names = list(told.sentences)
    if found and int(found[1]) < len(names):
        return f"sentences.{names[int(found[1])]}"
    return field.replace("class_names", "classes")


def _show(rules: Sequence[vision_pb2.TypedRule]) -> None:
    table = Table("class", "the decision", "concept", "in the sentence")
    for rule in rules:
        verb = "must rest on" if rule.polarity == vision_pb2.POLARITY_MUST else "must not rest on"
        concept = "[bold red]unknown[/]" if rule.concept == UNKNOWN_CONCEPT else escape(rule.concept)
        table.add_row(escape(rule.class_name), verb, concept, escape(", ".join(rule.noun_phrases)))
    console.print(table)
    unknown = [phrase for rule in rules if rule.concept == UNKNOWN_CONCEPT for phrase in rule.noun_phrases]
    if unknown:
        listed = ", ".join(f"'{phrase}'" for phrase in unknown)
        console.print(
            f"unknown: the language model has no word for {listed} and can't judge by it",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
