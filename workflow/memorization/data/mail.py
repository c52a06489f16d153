"""Mail of many owners, in the CMU release's layout or AESLC's: what each owner wrote, and nothing that says who it is.

Secret Sharer §6.2 (Table 2): one model per user, trained on the bodies of that user's own mails. Owners are numbered by
the amount of their text and shown as letters. Numbers that could be somebody's are masked before anything reads them.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from memorization.data.archives import members
from memorization.errors import UserError

LAYOUTS = (
    re.compile(r"(?:^|/)maildir/(?P<owner>[^/]+)/(?P<folder>[^/]+)/.+"),
    re.compile(r"(?:^|/)(?P<owner>[^/_]+)_(?P<folder>[^/]+)_\d+\.subject$"),
)
"""Member names of the CMU release (mails with headers) and of AESLC (bodies, then the subject after `@subject`)."""

NUMBER = re.compile(r"[0-9](?:[\s.,/()_-]{0,3}[0-9]){6,}")
"""Seven or more digits with at most three separators between two of them: card, account, social-security and phone
numbers, and more (dates with times, amounts)."""

COMPANY_WIDE = 5
"""Text that lies in more mailboxes than this was sent around."""

HELD_OUT = {18: "validation", 19: "test"}
"""Of every 20 mails the 19th is for validation, the 20th for testing."""

_QUOTED = re.compile(
    r"^[\s>]*(?:-{2,}.*(?:original message|forwarded by|forwarded message).*|(?:to|cc|bcc|from|sent|subject|date):.*"
    r"|.*\d{1,2}/\d{1,2}/\d{2,4},? +\d{1,2}:\d{2}(?::\d{2})? ?(?:am|pm)?\s*|.* wrote:\s*)$",
    re.IGNORECASE,
)
"""The line at which somebody else's mail begins: everything from there on is quoted or forwarded."""
_ATTACHMENT = re.compile(
    r"^\s*(?:<<.*>>|\(see attached file.*|\[image\].*| ?- .{1,60}\.[a-z]{3})\s*$", re.IGNORECASE
)


@dataclass(frozen=True)
class Mail:
    """One cleaned mail. `key` is the same for texts that differ only in digits, marks, spaces and capitals."""

    owner: str
    own: bool
    key: bytes
    text: str


def mailbox(path: Path, number: int) -> dict[str, str]:
    """Role -> text (printable ASCII and newlines) of the owner with the `number`-th most text, from 1, in the archive.

    Mails are split, not lines; characters that the training text lacks are left out of the other two.
    Raises UserError for a bad archive and for a number that it does not have.
    """
    boxes = own_mail(path)
    if not boxes:
        raise UserError(f"{path}: holds no mail in a known layout (maildir/<owner>/... or <owner>_<folder>_<n>.subject)")
    if number > len(boxes):
        raise UserError(f"corpus.mailbox {number}: {path} has only {len(boxes)} owners with mail of their own")
    parts: dict[str, list[str]] = {role: [] for role in ("train", "validation", "test")}
    for i, text in enumerate(boxes[number - 1]):
        parts[HELD_OUT.get(i % 20, "train")].append(text)
    known = set("".join(parts["train"]))
    return {role: "".join(c for text in texts for c in text if c in known) for role, texts in parts.items()}


def own_mail(path: Path) -> list[list[str]]:
    """Per owner the texts of the mails that he or she sent, each once, owners with most text first.

    Left out are auto-generated mails (the owner has sent the same words before) and what was sent around the company.
    Mails are in the order of a hash of their words: it does not depend on the packing, and time plays no part in it.
    """
    numbers: dict[str, int] = {}
    holders: dict[bytes, int] = {}
    sent: dict[str, dict[bytes, str]] = {}
    for name, content in members(path):
        if (mail := read_mail(name, content)) is not None:
            # One bit per owner: half a million sets would not fit.
            holders[mail.key] = holders.get(mail.key, 0) | 1 << numbers.setdefault(mail.owner, len(numbers))
            if mail.own:
                box = sent.setdefault(mail.owner, {})
                # Of several versions one that does not depend on the archive's order.
                box[mail.key] = min(box.get(mail.key, mail.text), mail.text)
    boxes = []
    for owner, box in sent.items():
        kept = [text for key, text in sorted(box.items()) if holders[key].bit_count() <= COMPANY_WIDE]
        boxes.append((-sum(map(len, kept)), owner, kept))
    return [kept for _, _, kept in sorted(boxes) if kept]


def read_mail(name: str, content: bytes) -> Mail | None:
    """The mail in the archive's member `name`, or None for another file and for a mail that says nothing."""
    match = next(filter(None, (layout.search(name) for layout in LAYOUTS)), None)
    if match is None:
        return None
    text = content.decode("utf-8", errors="ignore").replace("\r", "")
    text = text.partition("\n@subject")[0] if name.endswith(".subject") else text.partition("\n\n")[2]
    text = mask_numbers(body(text))
    words = "".join(c for c in text.lower() if c.isalpha())
    if not words:
        return None
    key = hashlib.blake2b(words.encode(), digest_size=8).digest()
    # The paper splits by sender: a mailbox's owner is the sender of what lies in its folders of sent mail.
    return Mail(match["owner"], "sent" in match["folder"].lower(), key, text)


def body(text: str) -> str:
    """The writer's own lines, each ending in a newline: no quotation, attachment or line without a letter."""
    # Leftovers of quoted-printable, in which some of the mails were stored.
    text = re.sub(r"=(?:20|09)", " ", text.replace("=\n", ""))
    text = text.replace("\t", " ").encode("ascii", errors="ignore").decode()
    lines = []
    for line in text.split("\n"):
        if _QUOTED.match(line):
            break
        line = " ".join("".join(c for c in line if c.isprintable()).split())
        if not line.startswith(">") and not _ATTACHMENT.match(line) and any(c.isalpha() for c in line):
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def mask_numbers(text: str) -> str:
    """`text` with every digit of a number that could be a real secret replaced by #."""
    # Deviation: the paper trains on the real numbers and reports which of them can be extracted. Here no real number
    # reaches a model, so none can be memorised, printed or stored; the secrets are planted and synthetic.
    return NUMBER.sub(lambda found: re.sub(r"[0-9]", "#", found[0]), text)
