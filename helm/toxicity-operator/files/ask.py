"""What `helm test` runs, with nothing but Python: GET OPERATOR_URL, then TEXT to SERVICE_URL/v1/classify if one is set.

Exits with 1 and the answer when it is not what it should be.
"""

import json
import os
import sys
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 60


def ask(url: str, body: bytes | None = None) -> str:
    """The body of the answer. Ends the program, with the answer printed, unless it is a success."""
    token = os.environ.get("TOKEN")
    authorization = {"authorization": f"Bearer {token}"} if token and body else {}
    request = urllib.request.Request(url, body, {"content-type": "application/json", **authorization})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error}: {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


def classify(url: str, text: str) -> None:
    """Prints the text's score. Ends the program, with the answer printed, when there is none from 0 to 1."""
    answer = ask(f"{url.rstrip('/')}/v1/classify", json.dumps({"text": text}).encode())
    try:
        score = json.loads(answer)["results"][0]["score"]
        usable = 0 <= score <= 1
    except (ValueError, LookupError, TypeError):
        usable = False
    if not usable:
        sys.exit(f"{url}: no score from 0 to 1: {answer}")
    print(f"{url}: {answer}")


def main() -> None:
    """The operator's health first: without it nothing else means much."""
    print(f"operator: {ask(os.environ['OPERATOR_URL'])}")
    if os.environ["SERVICE_URL"]:
        classify(os.environ["SERVICE_URL"], os.environ["TEXT"])
    else:
        print("helmTest.url is not set: no text was classified")


if __name__ == "__main__":
    main()
