"""An endpoint that thinks, breaks lines, refuses, cuts and fails; what every row makes of it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from eval.answering.backends import open_model
from eval.answering.backends.endpoint import as_chat
from eval.bench.life import write_pictures
from eval.bench.oracle import official_docs
from eval.cli import app
from eval.lmms.official import Official
from eval.run import evaluate
from eval.suites.registry import SUITES

SPECS = [row for row in SUITES["mini"].rows if isinstance(row, Official)]
LIMIT = 20
HM = "Is it this?\n\nOr that?\n\nThe answer is C. No, yes."


def said(text, finish="stop", **more):
    return {"choices": [{"message": {"content": text, **more}, "finish_reason": finish}]}


# what happens to the nth question of a row: (status, reply to the true answer) at each try
SCRIPT = {
    "says it": lambda truth: [(200, said(truth))],
    "breaks a line first": lambda truth: [(200, said(f"\n\n{truth}\n\n"))],
    "thinks": lambda truth: [(200, said(f"<think>{HM}</think>\n\n{truth}"))],
    "thinks apart": lambda truth: [(200, said(truth, reasoning_content=HM))],
    "began in the prompt": lambda truth: [(200, said(f"{HM}</think>\n\n{truth}"))],
    "is busy first": lambda truth: [(429, {}), (429, {}), (200, said(truth))],
    "fails first": lambda truth: [(500, {}), (200, said(truth))],
    "reaches the limit": lambda truth: [(200, said(truth, "length"))],
    "thinks too long": lambda truth: [(200, said(f"<think>{HM} {truth}", "length"))],
    "thinks too long apart": lambda truth: [(200, said(None, "length", reasoning=HM))],
    "hides its thinking": lambda truth: [(200, said("", "length"))],
    "is filtered": lambda truth: [(200, said(truth, "content_filter"))],
    "may not": lambda truth: [(403, {"error": {"message": "not this one"}})],
    "has no quota": lambda truth: [(429, {"error": {"code": "insufficient_quota"}})],
}  # fmt: skip
LOST = list(SCRIPT)[8:]


class Scripted(BaseHTTPRequestHandler):
    truths: ClassVar[dict[str, str]] = {}
    plays: ClassVar[dict[str, str]] = {}
    tries: ClassVar[dict[str, int]] = {}
    name = "max_tokens"

    def do_GET(self):
        self.answer(404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.name not in body:
            message = f"Unsupported parameter: use '{self.name}' instead."
            self.answer(400, {"error": {"message": message}})
            return
        asked = json.dumps(body["messages"])
        steps = SCRIPT[self.plays[asked]](self.truths[asked])
        step = min(self.tries.get(asked, 0), len(steps) - 1)
        self.tries[asked] = self.tries.get(asked, 0) + 1
        self.answer(*steps[step])

    def answer(self, status: int, reply: Any) -> None:
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 32


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The rows as they are scored, those of the truth, and their folders."""
    root = tmp_path_factory.mktemp("scripted")
    data = write_pictures(root / "data")
    source = SUITES["mini"].open(data)
    with Server(("127.0.0.1", 0), Scripted) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"openai:http://127.0.0.1:{server.server_address[1]}/v1"
        found = []
        for name, plays in (("truth", ["says it"]), ("script", list(SCRIPT))):
            Scripted.truths, Scripted.plays, Scripted.tries = {}, {}, {}
            Scripted.name = {"truth": "max_completion_tokens"}.get(name, "max_tokens")
            for spec in SPECS:
                for n, (messages, truth) in enumerate(
                    official_docs(spec, source, root / "work", LIMIT)
                ):
                    asked = json.dumps(as_chat(messages).messages)
                    Scripted.truths[asked] = truth
                    Scripted.plays[asked] = plays[n % len(plays)]
            opened = open_model(address, "tiny")
            result = evaluate(opened.answerer, opened.weights, "mini", data, root / name,
                              rows=[spec.name for spec in SPECS], controls=False,
                              limit=LIMIT)  # fmt: skip
            found.append((result, root / name))
        server.shutdown()
    return found


def lines(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_another_name_of_the_limit_costs_nothing(results):
    (truth, _), _ = results
    assert {row["score"] for row in truth["rows"]} == {100.0}
    assert truth["problems"] == []
    assert all(row["unanswered"] == 0 for row in truth["rows"])


def test_every_answer_is_scored_as_a_person_would(results):
    _, (result, folder) = results
    answers = lines(folder)
    for row in result["rows"]:
        mine = [line for line in answers if line["row"] == row["name"]]
        lost = [line for line in mine if line["problem"]]
        assert (row["answered"], row["unanswered"]) == (len(mine) - len(lost), len(lost))
        assert lost
        assert all(line["correct"] == 1 for line in mine if not line["problem"]), row["name"]
        assert all(line["correct"] == 0 and line["answer"] == "" for line in lost)
        assert not [line for line in mine if HM in line["answer"]]
        kinds = {line["problem"].partition(":")[0].partition(";")[0] for line in lost}
        assert kinds <= {
            "cut inside its thinking", "the endpoint's content filter withheld the answer",
            "RefusalError", "PermissionDeniedError", "RateLimitError",
        }  # fmt: skip
        assert row["details"]["thought"]
        assert row["details"]["cut"]


def test_nothing_is_hidden_in_tables_and_comparisons(results):
    (_, truth), (result, folder) = results
    invoke = CliRunner().invoke
    for form in ("markdown", "json", "csv", "latex"):
        for arguments in (["table", str(folder)], ["table", str(folder), str(truth)],
                          ["compare", str(folder), str(truth)]):  # fmt: skip
            text = invoke(app, [*arguments, "--format", form]).stdout
            assert "unanswered" in text, (form, arguments)
    alone = (folder / "table.md").read_text()
    for row in result["rows"]:
        of = row["answered"] + row["unanswered"]
        assert f"({row['unanswered']} of {of} unanswered)" in alone
    assert "questions have no answer and count as wrong; the first: " in alone
    assert "answers had thinking in them, which was removed" in alone
    assert "answers were cut at the limit of new tokens" in alone
    found = json.loads(invoke(app, ["compare", str(folder), str(truth), "--format", "json"]).stdout)
    assert found["mean"]["score"] is None
    assert "no answer: mini-mmbench_en" in found["mean"]["why"]
    assert all(row["second_unanswered"] == 0 < row["first_unanswered"] for row in found["rows"])
    page = (folder / "report.html").read_text()
    assert "(none: cut inside its thinking" in page
