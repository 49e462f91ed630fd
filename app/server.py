"""`serve`: a store behind an endpoint that speaks OpenAI's protocol of chat completions.

The last message is the question; what was learned answers it, else it is not known, or with "base"
in the request the base answers, with the chat before it. Answers carry their sources under
"peer_cl".
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.report import answer_lines
from peer_cl.errors import InputError, PeerError, StateError, UnknownError
from pipelines.live import LiveModel
from pipelines.store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from pipelines.answer import Answer

MODEL = "peer-cl"
"""Everything that was learned; with a stroke and a domain's name, that domain alone."""


STATUSES: dict[type[Exception], int] = {InputError: 400, UnknownError: 404, StateError: 409}


class Part(BaseModel):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @property
    def text(self) -> str:
        """All that it says."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)

    @property
    def plain(self) -> dict[str, str]:
        """The message as chat templates take it."""
        return {"role": self.role.replace("developer", "system"), "content": self.text}


class ChatRequest(BaseModel):
    """What a client sends; other fields of the protocol change nothing."""

    model_config = ConfigDict(extra="ignore")
    model: str = MODEL
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    base: bool = False
    """Where nothing is known, the base answers in its own words."""

    @property
    def most_tokens(self) -> int | None:
        """Of the base's own words."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def domain(self) -> str | None:
        """The domain that shall answer; None: whatever the question finds."""
        name, _, domain = self.model.partition("/")
        if name != MODEL:
            raise UnknownError(f"no model {self.model!r}: {MODEL}, or {MODEL}/DOMAIN")
        return domain or None


def make_app(store: Store, key: str) -> Starlette:
    """Return the application that answers from a store to whoever has the key."""
    served = _Served(store)
    return Starlette(
        routes=[
            Route("/v1/models", served.models),
            Route("/v1/chat/completions", served.chat, methods=["POST"]),
        ],
        middleware=[Middleware(_Guard, key=key)],
        exception_handlers={PeerError: _refuse, ValidationError: _refuse},
    )


class _Guard:
    """Lets nobody in without the key: other users and web pages reach loopback too."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.wanted = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, self.wanted):
                message = "send the key that `peer-cl serve` printed: Authorization: Bearer KEY"
                await _error(401, message)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _error(status: int, message: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind}}, status)


def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return _error(400, f"{place}: {first['msg']}" if place else first["msg"])
    return _error(STATUSES.get(type(error), 500), str(error))


class _Served:
    def __init__(self, store: Store) -> None:
        self.store, self.model = store, LiveModel()

    async def models(self, _: Request) -> Response:
        """List everything as one model, and each active domain."""
        live = await run_in_threadpool(self.store.registry.queries.live)
        names = [f"{MODEL}/{one.domain}" for one in live.domains if one.is_enabled]
        models = [{"id": name, "object": "model", "owned_by": MODEL} for name in (MODEL, *names)]
        return JSONResponse({"object": "list", "data": models})

    async def chat(self, request: Request) -> Response:
        """Answer a chat's last message."""
        asked = ChatRequest.model_validate_json(await request.body())
        if asked.messages[-1].role != "user":
            raise InputError("the last message must be the user's: it is the question")
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head |= {"model": asked.model, "object": "chat.completion" + ".chunk" * asked.stream}
        if asked.stream:
            await run_in_threadpool(self._check, asked)  # errors have a status only before a stream
            lines = self._streamed(asked, head)
            return StreamingResponse(lines, media_type="text/event-stream")
        answer, said, usage = await run_in_threadpool(self._answer, asked)
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**head, "choices": [choice], "usage": usage, **_about(answer)})

    def _check(self, asked: ChatRequest) -> None:
        if asked.domain is not None:
            self.store.registry.queries.check_active(asked.domain)
        if not asked.messages[-1].text.strip():
            raise InputError("the last message is empty: it is the question")

    def _answer(self, asked: ChatRequest) -> tuple[Answer, str, dict[str, int]]:
        """Return an answer, the same in words, and how many tokens it took."""
        question = asked.messages[-1].text
        with self.model.borrowed(self.store, self.store.registry.queries.live()) as loaded:
            model, tokenizer = loaded
            answer = self.store.ask(
                question,
                model=model,
                tokenizer=tokenizer,
                domains=asked.domain,
                base=asked.base,
                before=[message.plain for message in asked.messages[:-1]],
                **({"max_new_tokens": most} if (most := asked.most_tokens) else {}),
            )
        said = "\n".join(answer_lines(answer))
        num_asked, num_said = (len(tokenizer(one).input_ids) for one in (question, said))
        total = num_asked + num_said
        usage = {"prompt_tokens": num_asked, "completion_tokens": num_said, "total_tokens": total}
        return answer, said, usage

    def _streamed(self, asked: ChatRequest, head: dict[str, Any]) -> Iterator[str]:
        """Yield an answer, then its sources: it is known as a whole or not at all."""
        try:
            answer, said, _ = self._answer(asked)
        except Exception as error:  # the status was sent: the client is told in the stream
            message = str(error) if isinstance(error, PeerError) else type(error).__name__
            yield f"data: {json.dumps({'error': {'message': message}})}\n\n"
        else:
            yield _chunk(head, {"role": "assistant", "content": said})
            yield _chunk(head, {}, "stop", **_about(answer))
        yield "data: [DONE]\n\n"


def _chunk(
    head: dict[str, Any], delta: dict[str, str], finish_reason: str | None = None, **more: Any
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"


def _about(answer: Answer) -> dict[str, Any]:
    """Return where an answer comes from, beside what the protocol knows."""
    return {"peer_cl": asdict(answer)}
