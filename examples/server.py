"""A small HTTP server for a sampler: FastAPI around `md.Sampler`.

    pip install "multidrift[serve]"
    python examples/server.py                 # then: curl '127.0.0.1:8000/samples?seed=7&count=4' > digits.png

GET /samples?seed=7&count=4&format=png draws; format=json gives the values. A client that goes away takes its request
back.
"""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

import multidrift as md
from multidrift.runs.pictures import image_grid, to_pixels

_LOOK = 0.05  # seconds between looks whether the client is still there


def create_app(sampler: md.Sampler, methods: dict[str, md.Method] | None = None) -> FastAPI:
    """The server of one sampler; `methods`: others that a request may name. Closes the sampler at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        yield
        await asyncio.to_thread(sampler.close)

    app = FastAPI(title="multidrift", lifespan=lifespan)

    @app.get("/samples")
    async def samples(
        request: Request,
        seed: int,
        count: Annotated[int, Query(ge=1)] = 1,
        method: str | None = None,
        format: Literal["png", "json"] = "png",  # noqa: A002
    ) -> Response:
        if method is not None and method not in (methods or {}):
            raise HTTPException(422, f"method: got {method!r}; it takes {', '.join(methods or {})}")
        try:
            answer = sampler.submit(seed, count, method=(methods or {}).get(method or ""))
            drawing = asyncio.wrap_future(answer)
            while not drawing.done():
                await asyncio.wait([drawing], timeout=_LOOK)
                if await request.is_disconnected():
                    drawing.cancel()
                    return Response(status_code=499)
            drawn = drawing.result()
        except md.QueueFull as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        except md.MultidriftError as error:
            raise HTTPException(422, str(error)) from error
        if format == "json":
            return JSONResponse(drawn.tolist())
        image_grid(to_pixels(drawn)).save(content := io.BytesIO(), format="png")
        return Response(content.getvalue(), media_type="image/png")

    return app


if __name__ == "__main__":
    import uvicorn

    ladder = md.Ladder.bundled("digits")
    uvicorn.run(create_app(md.Sampler(ladder, md.Multistep(20), md.Diffusion(ladder.schedule, eta=0.0))), port=8000)
