"""A loopback server that speaks Gemini's REST API, so that tests use the real LangChain client, keyless.

It answers `generateContent`, `streamGenerateContent?alt=sse` and `batchEmbedContents` as scripted, and keeps
every request. The shapes follow https://ai.google.dev/api/generate-content and .../api/embeddings.

    with GeminiDouble(answers=[Text("Hello."), HttpError(429)]) as gemini:
        model = ChatGoogleGenerativeAI(
            model="gemini-3-flash-preview", base_url=gemini.url, google_api_key="test", max_retries=1
        )
        model.invoke("Hi")
        assert "Hi" in gemini.prompts()[0]
"""

import base64
import hashlib
import json
import math
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self, cast

# --- what the double may reply ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text; a stream sends it word by word. A signature comes as Gemini 3 sends it, with the last part.

    `finish="MAX_TOKENS"` says, as Gemini does, that a text was cut off.
    """

    text: str
    signature: bytes | None = None
    finish: str = "STOP"


@dataclass(frozen=True)
class Call:
    """One function call. Without an `id` the client makes one up, which changes from run to run."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True)
class Calls:
    """One or more function calls in one message; only the first carries the signature, as Gemini 3 does."""

    calls: tuple[Call, ...]
    signature: bytes | None = b"signature"


@dataclass(frozen=True)
class Json:
    """A value as JSON text: what a structured call expects."""

    value: Any


@dataclass(frozen=True)
class MalformedJson:
    """Text that is no JSON.

    LangChain's parser closes what merely stops too early, and the call succeeds: for that, queue
    `Text('{"memories": ["half a me', finish="MAX_TOKENS")`.
    """

    text: str = '{"memories": nope}'


@dataclass(frozen=True)
class Vectors:
    """The vectors of the texts that were asked for: what an embedding call expects."""


@dataclass(frozen=True)
class HttpError:
    """An error reply, for instance 429 or 500, in Gemini's error shape."""

    status: int
    message: str = "scripted by the test"


@dataclass(frozen=True)
class Slow:
    """Wait before a reply (none: the queue's default); closing the double ends the wait."""

    seconds: float
    then: "Reply | None" = None


@dataclass(frozen=True)
class Cut:
    """Send the first half of a reply (none: the queue's default), then close the connection."""

    of: "Reply | None" = None


Reply = Text | Call | Calls | Json | MalformedJson | Vectors | HttpError | Slow | Cut


# --- what the double was asked ---------------------------------------------------------------------------

# What the client sends to Gemini 3 with a function call whose signature it does not have.
LOST_SIGNATURE = base64.urlsafe_b64decode("skip_thought_signature_validator")

Kind = Literal["answer", "structured", "embedding", "unknown"]


@dataclass(frozen=True)
class Request:
    """One request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """Tell which queue replies."""
        match self.operation:
            case "batchEmbedContents":
                return "embedding"
            case "generateContent" | "streamGenerateContent":
                schema = self.body.get("generationConfig", {}).get("responseJsonSchema")
                return "answer" if schema is None else "structured"
            case _:
                return "unknown"

    @property
    def model(self) -> str:
        """Name the model that was asked."""
        return self.path.rpartition("/")[2].partition(":")[0]

    @property
    def operation(self) -> str:
        """Name what was asked of the model, for instance "generateContent"."""
        return self.path.partition("?")[0].rpartition(":")[2]

    @property
    def parts(self) -> list[dict[str, Any]]:
        """List all parts in order: the system instruction's, then those of the contents."""
        contents = [self.body.get("systemInstruction", {}), *self.body.get("contents", [])]
        contents += [request["content"] for request in self.body.get("requests", [])]
        return [part for content in contents for part in content.get("parts", [])]

    @property
    def texts(self) -> list[str]:
        """List the texts of the parts."""
        return [part["text"] for part in self.parts if "text" in part]

    @property
    def tools(self) -> list[str]:
        """Name the functions that the model may call."""
        tools = self.body.get("tools", [])
        return [function["name"] for tool in tools for function in tool.get("functionDeclarations", [])]

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """List the function responses: name and response."""
        return [part["functionResponse"] for part in self.parts if "functionResponse" in part]

    @property
    def signatures(self) -> list[bytes]:
        """List the thought signatures that came back, `LOST_SIGNATURE` where the client had lost it."""
        sent = [part["thoughtSignature"] for part in self.parts if "thoughtSignature" in part]
        return [base64.b64decode(signature, altchars=b"-_") for signature in sent]


# --- the double ------------------------------------------------------------------------------------------


class GeminiDouble:
    """Gemini on 127.0.0.1, from `with` to its end.

    Each kind of call has a queue of replies and, for when that is empty, a default. The queues and the
    defaults may be changed at any time; a reply leaves its queue when a request takes it.
    """

    def __init__(
        self,
        answers: Iterable[Reply] = (),
        structured: Iterable[Reply] = (),
        embeddings: Iterable[Reply] = (),
        dimension: int = 256,
    ) -> None:
        self.answers = deque(answers)
        self.structured = deque(structured)
        self.embeddings = deque(embeddings)
        self.defaults: dict[Kind, Reply] = {
            "answer": Text("ok"),
            "structured": Json({"memories": [], "learning": None}),
            "embedding": Vectors(),
            "unknown": HttpError(404, "not an operation that the double knows"),
        }
        self.dimension = dimension
        self.closing = threading.Event()
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Give what the client needs as its `base_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """List all requests so far, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def prompts(self, kind: Kind = "answer") -> list[str]:
        """Give the texts of each request of a kind: the system instruction, then the contents, one a line."""
        return ["\n".join(request.texts) for request in self.requests if request.kind == kind]

    def take(self, request: Request) -> Reply:
        """Record a request and take the reply for it from its queue."""
        queues = {"answer": self.answers, "structured": self.structured, "embedding": self.embeddings}
        queue = queues.get(request.kind)
        with self._lock:
            self._requests.append(request)
            return queue.popleft() if queue else self.defaults[request.kind]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of 5, the 6th of many clients at once would wait a second

    def __init__(self, double: GeminiDouble) -> None:
        self.double = double
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # chunks, without which the client could not tell a cut stream from its end

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, json.loads(raw))
        try:
            self._send(request, self._double.take(request))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client timed out or gave up: what some tests are about

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    @property
    def _double(self) -> GeminiDouble:
        return cast("_Server", self.server).double

    def _send(self, request: Request, reply: Reply, cut: bool = False) -> None:
        match reply:
            case Slow(seconds, then):
                self._double.closing.wait(seconds)
                self._send(request, then or self._double.defaults[request.kind], cut)
            case Cut(of):
                self._send(request, of or self._double.defaults[request.kind], cut=True)
            case HttpError(status, message):
                error = {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}
                self._send_json({"error": error}, status, cut)
            case Vectors():
                vectors = [{"values": _vector(text, self._double.dimension)} for text in request.texts]
                self._send_json({"embeddings": vectors}, HTTPStatus.OK, cut)
            case _ if request.operation == "streamGenerateContent":
                self._send_events(_responses(request, reply, list(_pieces(_parts(reply)))), cut)
            case _:
                [whole] = _responses(request, reply, [_parts(reply)])
                self._send_json(whole, HTTPStatus.OK, cut)

    def _send_json(self, value: Mapping[str, Any], status: int, cut: bool) -> None:
        body = json.dumps(value).encode()
        self._send_head(status, "application/json; charset=UTF-8", ("Content-Length", str(len(body))))
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def _send_events(self, events: list[dict[str, Any]], cut: bool) -> None:
        self._send_head(HTTPStatus.OK, "text/event-stream", ("Transfer-Encoding", "chunked"))
        for event in events[: math.ceil(len(events) / 2)] if cut else events:
            data = f"data: {json.dumps(event)}\r\n\r\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        if not cut:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, content_type: str, length: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header(*length)
        # A kept connection would stay in the client's pool, and warn when its event loop is closed.
        self.send_header("Connection", "close")
        self.end_headers()


# --- Gemini's shapes -------------------------------------------------------------------------------------

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def _parts(reply: Reply) -> list[dict[str, Any]]:
    match reply:
        case Text(text, signature):
            return [_signed({"text": text}, signature)]
        case MalformedJson(text):
            return [{"text": text}]
        case Json(value):
            return [{"text": json.dumps(value)}]
        case Call():
            return _parts(Calls((reply,)))
        case Calls((first, *others), signature):
            return [_signed(_call(first), signature), *map(_call, others)]
        case _:
            raise TypeError(f"{reply} cannot reply to generateContent")


def _call(call: Call) -> dict[str, Any]:
    named = {"name": call.name, "args": dict(call.args)}
    return {"functionCall": named if call.id is None else {**named, "id": call.id}}


def _signed(part: dict[str, Any], signature: bytes | None) -> dict[str, Any]:
    return part if signature is None else {**part, "thoughtSignature": base64.b64encode(signature).decode()}


def _pieces(parts: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut texts into words, one list of parts for each event; a signature follows with an empty text."""
    for part in parts:
        words = re.findall(r"\s*\S+|\s+$", part["text"]) if "text" in part else []
        yield from ([{"text": word}] for word in words)
        if not words:
            yield [part]
        elif "thoughtSignature" in part:
            yield [{**part, "text": ""}]


def _responses(request: Request, reply: Reply, pieces: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Render one response for each list of parts; the usage counts words, and grows as Gemini's does."""
    prompt = sum(len(text.split()) for text in request.texts)
    responses: list[dict[str, Any]] = []
    output = 0
    for parts in pieces:
        output += sum(len(part.get("text", "call").split()) for part in parts)
        usage = {
            "promptTokenCount": prompt,
            "candidatesTokenCount": output,
            "totalTokenCount": prompt + output,
        }
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        responses.append({"candidates": [candidate], "usageMetadata": usage, "modelVersion": request.model})
    responses[-1]["candidates"][0]["finishReason"] = reply.finish if isinstance(reply, Text) else "STOP"
    return responses


def _vector(text: str, dimension: int) -> list[float]:
    """Hash each word to a place and a sign, and scale to length 1: texts that share words come out near."""
    vector = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
        vector[digest // 2 % dimension] += 1.0 if digest % 2 else -1.0
    length = math.hypot(*vector)
    return [value / length for value in vector] if length else [1.0, *vector[1:]]
