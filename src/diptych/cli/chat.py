"""`chat`: a conversation, line by line, for a person or for a script."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from ..conversation import Conversation
from ..errors import Cancelled, DiptychError, InvalidInput
from ..plugins import split
from ..result import Result
from ..sync import ImageClient
from .failure import Failed, tell
from .files import Target, check_folder, keep, slug
from .paint import failed, outcome
from .terminal import clean, emit, say
from .values import client_settings, edit_options, generate_options, picture
from .watch import waiting

__all__ = ["chat"]

_HELP = """\
Every line is sent to the model: the first makes a picture, the next ones edit the last picture.
  /plan TEXT       what TEXT would do; nothing is sent
  /mask FILE TEXT  send TEXT, changing only where the picture in FILE is white
  /undo            take the last turn back
  /model REF       go on with another model
  /save FILE.json  save the conversation with its pictures
  /load FILE.json  go on with a saved one
  /help            this text
  /quit            leave"""


def chat(image: str | None, folder: str | None, given: Mapping[str, Any]) -> None:
    """Hold a conversation over stdin until it ends.

    A script stops at the first error, and exits with its code; a person gets told and goes on.
    """
    place = Path(folder) if folder is not None else Path()
    check_folder(place)
    talk = _Chat(given, place)
    try:
        talk.begin(image)
        for line in _lines(echo=not given["as_json"]):
            if not talk.hear(line):
                break
    finally:
        talk.client.close()


class _Chat:
    """The state of one chat: the conversation, its client, and the options of every turn."""

    def __init__(self, given: Mapping[str, Any], folder: Path) -> None:
        self.given = given
        self.folder = folder
        self.settings = client_settings(given)
        self.making, self.editing = generate_options(given), edit_options(given)
        self.client = ImageClient(given["model"], **self.settings)
        self.thread: Conversation = self.client.conversation()
        self.commands: dict[str, Callable[[str], None]] = {
            "/plan": self.plan,
            "/mask": self.mask,
            "/undo": self.undo,
            "/model": self.model,
            "/save": self.save,
            "/load": self.load,
            "/help": lambda _: self.tell(_HELP),
        }

    def begin(self, image: str | None) -> None:
        if image is not None:
            self.thread = self.client.conversation(image=picture(image))
        if sys.stdin.isatty():
            self.tell(f"{self.client.model}; /help tells what there is, /quit leaves")

    def tell(self, text: object) -> None:
        """Something that is no result: for a person only."""
        if self.given["as_json"]:
            say(text)
        else:
            print(clean(text), flush=True)

    def hear(self, line: str) -> bool:
        """Act on one line. False to leave."""
        word, _, rest = line.strip().partition(" ")
        if word == "/quit":
            return False
        try:
            if word.startswith("/"):
                self.command(word)(rest.strip())
            elif word:
                self.send(line.strip())
        except KeyboardInterrupt:
            self._failed(Cancelled("interrupted; a request that had left already may be billed"))
        except DiptychError as error:
            self._failed(failed(error, Target(self.folder, slug(line))))
        except OSError as error:
            self._failed(error)
        return True

    def _failed(self, error: Exception) -> None:
        if not sys.stdin.isatty():
            raise error
        told = error if isinstance(error, Failed) else Failed(error, facts={})
        tell(told, as_json=self.given["as_json"])

    def command(self, word: str) -> Callable[[str], None]:
        found = self.commands.get(word)
        if found is None:
            raise InvalidInput(f"there is no {word}; there are {', '.join(self.commands)}, /quit")
        return found

    # What can be said

    def send(self, text: str, **more: Any) -> None:
        with waiting(text, quiet=self.given["quiet"]):
            result = self.thread.send(text, **self._options(), **more)
        paths = keep(result.images, Target(self.folder, slug(text)))
        if self.given["as_json"]:
            emit(outcome(result, paths), indent=None)
        else:
            print("\n".join(_described(result, paths)), flush=True)

    def plan(self, text: str) -> None:
        planned = self.thread.plan(_needed(text, "/plan TEXT"), **self._options())
        if self.given["as_json"]:
            emit({"plan": planned.to_dict()}, indent=None)
        else:
            self.tell(planned)

    def mask(self, text: str) -> None:
        file, rest = _first(text)
        self.send(_needed(rest, "/mask FILE TEXT"), mask=file)

    def undo(self, _: str) -> None:
        turn = self.thread.undo()
        self.tell(f"taken back: {turn.prompt}")

    def model(self, ref: str) -> None:
        name, _ = split(_needed(ref, "/model REF"))
        same = name == split(self.client.model)[0]
        shared = ("timeout", "max_retries", "budget")  # the rest belongs to the provider
        settings = {key: self.settings[key] for key in shared if key in self.settings}
        client = ImageClient(ref, **(self.settings if same else settings))
        self.thread.switch(client)
        self.client.close()
        self.client = client
        self.tell(f"model: {client.model}")

    def save(self, name: str) -> None:
        path = Path(_needed(name, "/save FILE.json")).expanduser()
        try:
            with path.open("w" if self.given["force"] else "x", encoding="utf-8") as file:
                file.write(self.thread.to_json())
        except FileExistsError:
            raise InvalidInput(
                f"{str(path)!r} exists; choose another name, or start the chat with --force"
            ) from None
        self.tell(f"saved: {path}")

    def load(self, name: str) -> None:
        path = Path(_needed(name, "/load FILE.json")).expanduser()
        self.thread = self.client.load_conversation(path.read_text(encoding="utf-8"))
        self.tell(f"loaded: {len(self.thread.turns)} turns")

    def _options(self) -> dict[str, Any]:
        """The options of the next turn; those of editing wait for a picture."""
        return self.making | (self.editing if self.thread.image is not None else {})


def _described(result: Result, paths: list[Path]) -> Iterator[str]:
    """A turn, in lines: what was chosen and why, what was noticed, the price, the files."""
    if result.plan is not None:
        yield clean(f"{result.plan.mode}: {result.plan.why}", line=True)
    for notice in result.notices:
        yield f"  note  {clean(notice, line=True)}"
    if result.text:
        yield f"  says  {clean(result.text, line=True)}"
    yield f"  cost  {result.cost}"
    for path in paths:
        yield f"  file  {path}"


def _lines(*, echo: bool) -> Iterator[str]:
    """What is typed, or what a script holds, which is echoed so that the transcript reads well."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            if echo and line.strip():
                print(f"> {clean(line, line=True)}", flush=True)
            yield line
        return
    with suppress(ImportError):  # not on every platform
        import readline  # noqa: F401  # gives input() its line editing and history
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n/quit leaves")


def _needed(text: str, usage: str) -> str:
    if not text:
        raise InvalidInput(f"write {usage}")
    return text


def _first(text: str) -> tuple[str, str]:
    """The first word, which may be quoted as in a shell, and the rest as it is."""
    stream = StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        word = lexer.get_token()
    except ValueError as error:
        raise InvalidInput(f"{text!r}: {error}") from None
    return word or "", stream.read().strip()
