"""Reading mail: own words only, numbers masked, owners by the amount of their text, whatever the packing."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorization.canaries import CanaryFormat
from memorization.data import mail, standins
from memorization.data.archives import content_digest, members
from memorization.data.corpora import build_corpus, read_texts
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.leaks import shapes
from memorization.specs import RunSpec
from memorization.vocabulary import Vocabulary

DATASETS = registry(Path(__file__).parents[2] / "config" / "datasets.yaml")
HEAD = "From: someone@invalid\nDate: Mon, 1 Jan 2001 00:00:00\n\n"


def packed(path, files, kind="tar", top=""):
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as box:
            for name, text in files.items():
                box.writestr(top + name, text)
        return path
    with tarfile.open(path, f"w:{kind}" if kind != "tar" else "w") as box:
        for name, text in files.items():
            info = tarfile.TarInfo(top + name)
            info.size = len(text.encode())
            box.addfile(info, io.BytesIO(text.encode()))
    return path


def cmu(owner, folder, number, body):
    return {f"maildir/{owner}/{folder}/{number}.": HEAD + body}


def words(count, start=0):
    """Distinct mails: numbers spelt with letters."""
    return ["".join(chr(97 + int(d)) for d in f"{start + i:06d}") + " says hello\n" for i in range(count)]


def test_only_the_owners_own_words_are_kept():
    text = (
        "Dear all,\n\nsee\tbelow.  \n-----\n<<budget.xls>>\n> quoted\n- plan.doc\n \nBest\n"
        "-----Original Message-----\nFrom: X\nold words\n"
    )
    assert mail.body(text) == "Dear all,\nsee below.\nBest\n"


@pytest.mark.parametrize(
    "line",
    [
        "---------------------- Forwarded by A B on 01/02/2001 10:11 AM ------",
        "To: somebody",
        "cc:",
        '"A B" <a@invalid> on 12/11/2000 10:54:37 AM',
        "Somebody wrote: ",
        "  From: A B",
        "> -----Original Message-----",
    ],
)
def test_what_begins_somebody_elses_mail_ends_the_own(line):
    assert mail.body(f"mine\n{line}\ntheirs\n") == "mine\n"


def test_leftovers_of_encodings_and_unprintable_characters_go():
    assert mail.body("soft=\nly=20caf\u00e9\x07\n") == "softly caf\n"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call 713-345-6687 now", "call ###-###-#### now"),
        ("ssn 123-45-6789", "ssn ###-##-####"),
        ("ssn 123 - 45 - 6789.", "ssn ### - ## - ####."),
        ("card 4111 1111 1111 1111", "card #### #### #### ####"),
        ("account 1234567", "account #######"),
        ("broken 123-45\n6789", "broken ###-##\n####"),
        ("123*45*6789", "###*##*####"),
        ("room 3267 at 10:30, in 2001", "room 3267 at 10:30, in 2001"),
        ("123456", "123456"),
    ],
)
def test_numbers_that_could_be_somebodys_are_masked(text, masked):
    assert mail.mask_numbers(text) == masked


@given(st.text("0123456789 -./ab\n:", max_size=60))
def test_no_secret_shape_survives_masking(text):
    masked = mail.mask_numbers(text)
    assert not list(shapes(masked.replace("\n", " "), strict=True))
    assert not re.search("[0-9]{7}", masked)
    assert len(masked) == len(text)


def test_owners_are_ordered_by_their_own_text_and_the_rest_is_left_out(tmp_path):
    files = {}
    for number, text in enumerate(words(40)):
        files |= cmu("big-b", "sent", number, text)
    for number, text in enumerate(words(10, start=100)):
        files |= cmu("small-s", "_sent_mail", number, text) | cmu("small-s", "sent_items", number, text.upper())
    for number, text in enumerate(words(500, start=1000)):
        files |= cmu("silent-x", "inbox", number, text)
    for number in range(30):
        files |= cmu("small-s", "sent", f"auto{number}", f"report {number} is ready\n")
    for owner in "abcdef":
        files |= cmu(f"reader-{owner}", "inbox", 1, "Party on Friday!\n")
    files |= cmu("big-b", "sent", "party", "Party on Friday!\n")
    files["maildir/big-b/sent/empty."] = HEAD
    boxes = mail.own_mail(packed(tmp_path / "m.tar.gz", files, "gz"))
    assert [sorted(box) for box in boxes] == [
        sorted(words(40)),
        sorted([*(min(t, t.upper()) for t in words(10, start=100)), "report 0 is ready\n"]),
    ]


def test_packing_and_order_change_nothing(tmp_path):
    files = {f"o-{o}_sent_{n}.subject": f"{t}\n@subject\nnot this\n" for o in "ab" for n, t in enumerate(words(45))}
    one = packed(tmp_path / "a.tar.xz", files, "xz", top="AESLC/")
    backwards = dict(reversed(files.items()))
    other = packed(tmp_path / "b.zip", backwards | {".hidden": "host's"}, "zip", top="AESLC-0123/")
    assert mail.mailbox(one, 2) == mail.mailbox(other, 2)
    assert content_digest(one) == content_digest(other)
    assert dict(members(one)).keys() == {f"AESLC/{name}" for name in files}
    texts = mail.mailbox(one, 1)
    assert [texts[role].count("\n") for role in ("train", "validation", "test")] == [41, 2, 2]
    assert "not this" not in "".join(texts.values())
    changed = packed(tmp_path / "c.tar", files | {"o-a_sent_0.subject": "else\n"}, top="AESLC/")
    assert content_digest(changed) != content_digest(one)
    assert content_digest(Path(__file__)) == "none"


def test_held_out_text_has_the_training_texts_characters_only(tmp_path):
    files = {f"o-a_sent_{n}.subject": t.replace("says", chr(33 + n)) for n, t in enumerate(words(60))}
    texts = mail.mailbox(packed(tmp_path / "a.tar", files), 1)
    assert set(texts["validation"]) | set(texts["test"]) <= set(texts["train"])


def test_errors_are_one_line_and_name_no_owner(tmp_path):
    files = {f"o-a_sent_{n}.subject": t for n, t in enumerate(words(30))}
    path = packed(tmp_path / "a.tar", files)
    with pytest.raises(UserError, match="has only 1 owners") as caught:
        mail.mailbox(path, 2)
    assert "o-a" not in str(caught.value)
    with pytest.raises(UserError, match="holds no mail"):
        mail.mailbox(packed(tmp_path / "b.tar", {"x.txt": "hello"}), 1)
    (tmp_path / "c.tar").write_bytes(b"no archive")
    with pytest.raises(UserError, match="not a zip or tar archive"):
        mail.mailbox(tmp_path / "c.tar", 1)
    with pytest.raises(UserError, match="No such file"):
        mail.mailbox(tmp_path / "d.tar", 1)


def test_registered_mail():
    assert [DATASETS[name].kind for name in ("enron", "enron_cmu")] == ["mail", "mail"]
    assert all(DATASETS[name].standin == "mail" for name in ("enron", "enron_cmu"))


@pytest.fixture
def standin(tmp_path):
    (content,) = standins.mail().values()
    (tmp_path / "AESLC.tar.xz").write_bytes(content)
    return tmp_path


def test_standin_serves_every_letter_of_the_table(standin):
    spec = RunSpec.model_validate({"corpus": {"dataset": "enron", "mailbox": 7}, "training": {"batch_size": 4}})
    texts = [read_texts(standin, DATASETS["enron"], n) for n in range(1, standins.OWNERS + 1)]
    sizes = [sum(map(len, t.values())) for t in texts]
    assert sizes == sorted(sizes, reverse=True)
    canary = CanaryFormat.parse("my social security number is {d}{d}{d}-{d}{d}-{d}{d}{d}{d}")
    for one in texts:
        canary.tokens(Vocabulary.of([one["train"]]))
    corpus = build_corpus(spec, standin, DATASETS["enron"], 0)
    assert corpus.vocabulary.decode(corpus.train).count(corpus.canary.text) == 1


def test_mailbox_belongs_to_mail_and_to_nothing_else(standin):
    with pytest.raises(UserError, match=r"say whose: corpus\.mailbox"):
        read_texts(standin, DATASETS["enron"])
    with pytest.raises(UserError, match=r"leave corpus\.mailbox out"):
        read_texts(standin, DATASETS["ptb"], 1)
