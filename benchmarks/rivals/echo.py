"""What FastAPI and pydantic alone cost: the body of a decision request in by its model, and out again by another.

`echo.py --port P`: one process, uvloop and httptools, no access log.
"""

import argparse
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Sent(BaseModel):
    user_id: str
    surface: str
    context: dict[str, Any] = {}
    slots: int | None = None
    dry_run: bool = False
    explain: bool = False
    exclude: list[str] = []


class Echoed(BaseModel):
    user_id: str
    surface: str
    context: dict[str, Any]


@app.post("/v1/decisions", response_model=Echoed)
async def echo(sent: Sent) -> Sent:
    return sent


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--port", type=int, required=True)
    asked, _ = words.parse_known_args()
    uvicorn.run(app, port=asked.port, loop="uvloop", http="httptools", ws="none", access_log=False, log_level="warning")
