"""Mail of many owners, in the CMU release's layout or AESLC's: what each owner wrote, and nothing that says who it is.

Secret Sharer §6.2 (Table 2): one model per user, trained on the bodies of that user's own mails. Owners are numbered by
the amount of their text and shown as letters. Numbers that could be somebody's are masked before anything reads them.
"""

import hashlib
import re
from pathlib import Path

from memorization.data.archives import members
from memorization.errors import UserError

LAYOUTS = (
    re.compile(r"(?:^|/)maildir/(?P<owner>[^/]+)/(?P<folder>[^/]+)/.+"),
    re.compile(r"(?:^|/)(?P<owner>[^/_]+)_(?P<folder>[^/]+)_\d+\.subject$"),
)
"""Member names of the CMU release (mails with headers) and of AESLC (bodies, then the subject after `@subject`)."""

NUMBER = re.compile(r"[0-9](?:[^0-9A-Za-z:]{0,3}[0-9]){6,}")
"""Seven or more digits with at most three marks or spaces between two of them (no colons, as in times): card, account,
social-security and phone numbers, and more, such as amounts and dates."""

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
_UNPRINTABLE = re.compile(r"[^ -~\n]")
_NO_LETTERS = bytes(c for c in range(256) if not chr(c).isascii() or not chr(c).isalpha())
_LETTER = re.compile(r"[A-Za-z]")
_ATTACHMENT = re.compile(r"^\s*(?:<<.*>>|\(see attached file.*|\[image\].*| ?- .{1,60}\.[a-z]{3})\s*$", re.IGNORECASE)


def mailbox(path: Path, number: int) -> dict[str, str]:
    """Role -> text (printable ASCII and newlines) of the owner with the `number`-th most text, from 1, in the archive.

    Mails are split, not lines; characters that the training text lacks are left out of the other two.
    Raises UserError for a bad archive and for a number that it does not have.
    """
    boxes = own_mail(path)
    if not boxes:
        raise UserError(f"{path}: holds no mail as maildir/<owner>/... or <owner>_<folder>_<number>.subject")
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
    sent: dict[str, dict[bytes, tuple[str, bytes]]] = {}
    for name, content in members(path):
        match = next(filter(None, (layout.search(name) for layout in LAYOUTS)), None)
        if match is None:
            continue
        raw = written(name, content)
        copy = _key(raw)
        # One bit per owner: half a million sets would not fit.
        holders[copy] = holders.get(copy, 0) | 1 << numbers.setdefault(match["owner"], len(numbers))
        # The paper splits by sender: a mailbox's owner is the sender of what lies in its folders of sent mail.
        if "sent" in match["folder"].lower():
            text = mask_numbers(body(raw.decode("utf-8", errors="ignore")))
            box = sent.setdefault(match["owner"], {})
            # Of versions with the same words one that does not depend on the archive's order.
            key = _key(text.encode())
            box[key] = min(box.get(key, (text, copy)), (text, copy))
    boxes = []
    for owner, box in sent.items():
        kept = [text for _, (text, copy) in sorted(box.items()) if text and holders[copy].bit_count() <= COMPANY_WIDE]
        boxes.append((-sum(map(len, kept)), owner, kept))
    return [kept for _, _, kept in sorted(boxes) if kept]


def written(name: str, content: bytes) -> bytes:
    """The mail in the archive's member `name` without what is above it (headers) or below (AESLC's subject lines)."""
    content = content.replace(b"\r", b"")
    return content.partition(b"\n@subject")[0] if name.endswith(".subject") else content.partition(b"\n\n")[2]


def _key(text: bytes) -> bytes:
    """The same for texts that differ only in digits, marks, spaces and capitals."""
    return hashlib.blake2b(text.translate(None, _NO_LETTERS).lower(), digest_size=8).digest()


def body(text: str) -> str:
    """The writer's own lines, each ending in a newline: no quotation, attachment or line without a letter."""
    # Leftovers of quoted-printable, in which some of the mails were stored.
    text = re.sub(r"=(?:20|09)", " ", text.replace("=\n", ""))
    text = _UNPRINTABLE.sub("", text.replace("\t", " "))
    lines = []
    for line in text.split("\n"):
        if _QUOTED.match(line):
            break
        line = " ".join(line.split())
        if not line.startswith(">") and not _ATTACHMENT.match(line) and _LETTER.search(line):
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def mask_numbers(text: str) -> str:
    """`text` with every digit of a number that could be a real secret replaced by #."""
    # Deviation: the paper trains on the real numbers and reports which of them can be extracted. Here no real number
    # reaches a model, so none can be memorised, printed or stored; the secrets are planted and synthetic.
    return NUMBER.sub(lambda found: re.sub(r"[0-9]", "#", found[0]), text)
