"""The policy on scripts in a real browser: what it stops, and that it would run without it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route

from serve.gateway.routes import Routes
from tests.e2e.browser import running_browser, wait_until
from tests.e2e.gateway_process import GatewayProcess, running_gateway

pytestmark = pytest.mark.slow

HOSTILE = """<!doctype html><title>hostile</title>
<script>executed("inline script")</script>
<script src="data:text/javascript,executed('data address')"></script>
<script src="https://elsewhere.example/code.js"></script>
<img src="/no-image" onerror="executed('handler')">
<p style="color: rgb(1, 2, 3)">painted by an attribute</p>
<a href="javascript:executed('script address')">follow me</a>
<form action="https://elsewhere.example/form"><input name="a" value="b"><button>send</button></form>
"""
HARM = {"inline script", "data address", "code from elsewhere", "handler", "script address"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), Routes(), "--no-keys") as process:
        yield process


def visit(browser: Browser, url: str, *, with_policy: bool) -> tuple[set[str], set[str], bool]:
    """Return what ran, which directives were violated, and whether the form was sent."""
    executed: set[str] = set()
    violated: set[str] = set()
    sent = []

    def injected(route: Route) -> None:
        reply = route.fetch()
        headers = {**reply.headers, "content-type": "text/html"}
        for name in ("content-encoding", "content-length"):
            headers.pop(name, None)
        if not with_policy:
            del headers["content-security-policy"]
        route.fulfill(body=HOSTILE, headers=headers)

    def elsewhere(route: Route) -> None:
        if route.request.url.endswith(".js"):
            route.fulfill(body="executed('code from elsewhere')", content_type="text/javascript")
        else:
            sent.append(route.request.url)
            route.fulfill(body="taken")

    page = browser.new_page()
    page.expose_function("executed", lambda text: executed.add(text))
    page.expose_function("noteViolation", lambda name: violated.add(name))
    page.add_init_script(
        "document.addEventListener('securitypolicyviolation',"
        " (event) => noteViolation(event.effectiveDirective))"
    )
    page.route("**/editor/", injected)
    page.route("https://elsewhere.example/**", elsewhere)
    page.goto(f"{url}/editor/")
    page.evaluate("document.querySelector('a').click()")
    page.wait_for_load_state("networkidle")
    # What was begun is done in order: the address has been followed, or refused.
    page.evaluate("new Promise((done) => setTimeout(done))")
    page.evaluate("setTimeout(() => document.querySelector('button').click())")
    wait_until(
        page, lambda: bool(sent or "form-action" in violated), "the form was sent or stopped"
    )
    page.context.close()
    return executed, violated, bool(sent)


def test_what_gets_into_the_page_does_not_run(browser: Browser, gateway: GatewayProcess) -> None:
    executed, violated, sent = visit(browser, gateway.url, with_policy=True)
    assert (executed, sent) == (set(), False)
    assert violated == {"script-src-elem", "script-src-attr", "style-src-attr", "form-action"}


def test_without_the_policy_all_of_it_would(browser: Browser, gateway: GatewayProcess) -> None:
    executed, violated, sent = visit(browser, gateway.url, with_policy=False)
    assert (executed, violated, sent) == (HARM, set(), True)
