"""How the client reaches an endpoint: limits on time and size, proxies, and what it says of answers that are no endpoint's."""

import asyncio
import contextlib
import http.server
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, FakeModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "serving"))

import client
import transport

MODELS = {"gan": FakeModel(), "vae": FakeModel(vae=True)}
PATH = "/v1/models/gan"


@pytest.fixture
def endpoint():
    with FakeEndpoint(MODELS) as fake:
        yield fake


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.001)


@contextlib.contextmanager
def serving(answer):
    """A server whose requests are answered by answer(handler); yields (its URL, [(method, path, headers), …])."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            requests.append((self.command, self.path, dict(self.headers)))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with contextlib.suppress(OSError):
                answer(self)

        do_POST = do_CONNECT = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


def page(status, content=b"<html>a page</html>", **headers):
    """An answer for `serving`."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def refused(url, kind=transport.EndpointError, call=lambda model: model.status(), **options):
    """The one line that a call ends with."""
    with pytest.raises(kind) as error:
        call(client.Model(url, "gan", **options))
    line = str(error.value)
    assert "\n" not in line and len(line) < 500
    return line


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def dead_url(scheme="http"):
    return f"{scheme}://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_an_endpoint_that_is_away_is_said_so(scheme):
    address = dead_url(scheme)
    with pytest.raises(transport.Away, match=f"nothing answers at {address} .* is the endpoint running"):
        client.Model(address, "gan").status()


# Time.


def test_an_endpoint_that_hangs_is_left_after_the_time_limit(endpoint):
    endpoint.hold.clear()
    with pytest.raises(transport.Away, match="gave no answer within 0.2 s: more with --timeout_seconds"):
        client.Model(endpoint.url, "gan", timeout_seconds=0.2).sample([1], [0])


def drip(handler):
    """Never silent for long, never done."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(60):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def drip_headers(handler):
    for _ in range(60):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" if _ == 0 else b"X-More: yes\r\n")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [drip, drip_headers])
def test_a_host_that_drips_a_byte_at_a_time_is_given_up(answer):
    with serving(answer) as (url, _):
        started = time.monotonic()
        assert "gave no answer within 0.4 s" in refused(url, transport.Slow, timeout_seconds=0.4)
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("answer", [drip, page(503), page(502), page(504), lambda handler: time.sleep(3)])
def test_wait_ends_when_its_time_is_over(answer):
    with serving(answer) as (url, _):
        started = time.monotonic()
        line = refused(url, call=lambda model: model.wait(0.7))
        assert 0.6 < time.monotonic() - started < 1.7
        assert line.startswith("gan is not available after 0.7 s: ") and "--timeout_seconds" not in line


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch):
    look_up = socket.getaddrinfo
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: answered.wait(20) and look_up(*given, **more))
    started = time.monotonic()
    refused("http://localhost:8501", transport.Slow, timeout_seconds=0.3)
    assert time.monotonic() - started < 3
    answered.set()


@pytest.mark.parametrize("seconds", [0.7, 1e6, 1e12])
def test_a_long_limit_is_one(endpoint, seconds):
    assert client.Model(endpoint.url, "gan", timeout_seconds=seconds).status() == [(3, "AVAILABLE", "")]
    assert "nothing answers" in refused(dead_url("grpc"), transport.Away, timeout_seconds=seconds)


def test_wait_says_the_last_answer_that_it_got(endpoint):
    with serving(page(503)) as (url, _):
        assert "busy (503: Service Unavailable)" in refused(url, call=lambda model: model.wait(0.3))
    assert "nothing answers at" in refused(dead_url(), call=lambda model: model.wait(0.3))
    endpoint.versions = {2: "LOADING"}
    assert "version 2 is LOADING" in refused(endpoint.url, call=lambda model: model.wait(0.3))


def test_the_client_works_within_a_running_event_loop_as_in_a_notebook(endpoint):
    async def cell():
        return client.Model(endpoint.url, "gan").status()

    assert asyncio.run(cell()) == [(3, "AVAILABLE", "")]


# What other servers answer.


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_by_where_it_leads_and_not_followed(status):
    with serving(page(status, Location=f"https://user:secret@models.example.org{PATH}")) as (url, requests):
        line = refused(url)
        assert f"{url} leads elsewhere ({status}: " in line and "secret" not in line
        assert f"to https://models.example.org{PATH} ." in line and "--url=https://models.example.org." in line
    with serving(page(status, Location=f"https://models.example.org/v2{PATH}:predict")) as (url, requests):
        model = client.Model(url, "gan")
        model._signatures = {"sample": ({"seed": (-1,), "truncation": (-1,)}, ["image_bytes"])}
        with pytest.raises(transport.EndpointError, match="--url=https://models.example.org/v2"):
            model.sample([1])
        assert [(method, path) for method, path, _ in requests] == [("POST", f"{PATH}:predict")]


@pytest.mark.parametrize(
    ("location", "said"),
    [
        (
            "/login?next=x",
            "to URL/login?next=x . Redirects are not followed: expected the address of the endpoint itself.",
        ),
        ("http://[::1", "Redirects are not followed: expected the address of the endpoint itself."),
        (None, "it does not say where."),
    ],
)
def test_a_redirect_to_a_login_or_to_nowhere_is_one_line(location, said):
    with serving(page(302, **({} if location is None else {"Location": location}))) as (url, _):
        assert said.replace("URL", url) in refused(url)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            401,
            "asks for a name and password (401: Unauthorized): expected those that it takes, as in --url=https://NAME",
        ),
        (403, "forbids this request (403: Forbidden): ask whoever runs it for access"),
        (404, f"has no page {PATH}, HTTP 404 and no JSON: expected the address of TF Serving's REST port"),
        (405, "answered with HTTP 405: Method Not Allowed and no JSON: expected the address of TF Serving's REST"),
        (407, "the proxy asks for a name and password (407: "),
        (413, "takes no request of 0 bytes (413: Request Entity Too Large): ask for fewer pictures at once"),
        (429, "the endpoint is busy (429: Too Many Requests)"),
        (500, "answered with HTTP 500: Internal Server Error and no JSON"),
        (502, "a server before the endpoint got no answer from it (502: Bad Gateway)"),
        (503, "the endpoint is busy (503: Service Unavailable)"),
        (504, "gave up waiting for the model (504: Gateway Timeout): ask for fewer pictures at once"),
    ],
)
@pytest.mark.parametrize("content", [b"<html>a page</html>", b"", b'["json"]', b'{"message": "of another kind"}'])
def test_a_page_is_told_by_what_its_status_means(status, said, content):
    with serving(page(status, content)) as (url, _):
        line = refused(url, retries=1)
        assert said in line and "is this its address" not in line


@pytest.mark.parametrize("content", [b"<html>", b"", b"{}", b"[]", b"7", b'{"model_version_status": [{}]}', b"\xff"])
def test_an_answer_that_is_not_an_endpoint_s_is_one_line(content):
    with serving(page(200, content)) as (url, _):
        line = refused(url)
        assert f"{url} answered " in line and "expected the address of TF Serving's REST port" in line
        assert "JSON" in refused(url, call=lambda model: model.sample([0]))


def test_what_does_not_speak_http_is_one_line():
    def babble(handler):
        handler.wfile.write(b"\x00\x00\x12\x04\x00 not HTTP\r\n\r\n")

    def short(handler):
        page(200, b"{", Content_Length="100")(handler)

    for answer in (babble, short, lambda handler: None):
        with serving(answer) as (url, _):
            assert "broke off, or does not speak HTTP/1.1" in refused(url, transport.Away)


def test_a_server_without_tls_behind_https_is_one_line(endpoint):
    line = refused(endpoint.url.replace("http:", "https:"))
    assert "do not agree on TLS" in line and "expected https:// only where" in line


def test_a_name_and_password_in_the_url_are_sent_and_not_shown():
    with serving(page(401)) as (url, requests):
        line = refused(url.replace("//", "//reader:secret@"))
        assert "secret" not in line and "reader" not in line
        assert requests[0][2]["Authorization"] == "Basic cmVhZGVyOnNlY3JldA=="


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1:8501",
        "http://localhost:port",
        "http://localhost:99999",
        "http://localhost:0",
        "http://",
        "http:///v1",
        "http://local host:8501",
        "http://localhost:8501?model=gan",
        "localhost:8501",
        "ftp://localhost",
        "",
        None,
        "grpc://[::1:8500",
        "grpc://localhost:8500/v1",
        "grpc://name:password@localhost:8500",
    ],
)
def test_a_url_that_cannot_be_is_refused(url):
    assert "expected http://HOST:PORT for REST or grpc://HOST:PORT" in refused(url)


@pytest.mark.parametrize("host", ["x" * 70, ".", "a..b", "-", "x_y.invalid", "\u00fc.invalid"])
def test_a_host_that_cannot_be_is_one_line(host):
    refused(f"http://{host}:8501", timeout_seconds=20)


# Proxies.


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_dead_proxy_is_named_by_its_variable(variable, monkeypatch):
    monkeypatch.setenv(variable, dead_url().replace("//", "//user:secret@"))
    line = refused("http://models.example.org:8501", transport.Away)
    assert f"http://models.example.org:8501 through the proxy of {variable}=http://127.0.0.1:" in line
    assert "correct or unset that variable, or add the host to no_proxy" in line and "secret" not in line


def test_a_dead_proxy_of_https_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("https_proxy", dead_url())
    assert "through the proxy of https_proxy=http://127.0.0.1:" in refused("https://models.example.org", transport.Away)


def test_a_dead_proxy_of_grpc_is_named_by_its_variable(monkeypatch):
    monkeypatch.setenv("http_proxy", dead_url())
    line = refused("grpc://models.example.org:8500", transport.Away)
    assert "through the proxy of http_proxy=http://127.0.0.1:" in line and "correct or unset that variable" in line


def test_a_proxy_is_used_and_named_where_it_refuses(monkeypatch):
    with serving(page(403)) as (proxy, requests):
        monkeypatch.setenv("http_proxy", proxy)
        line = refused("http://models.example.org:8501")
        assert f"http://models.example.org:8501 through the proxy of http_proxy={proxy} forbids this request" in line
        assert requests[0][1] == f"http://models.example.org:8501{PATH}"
        monkeypatch.setenv("https_proxy", proxy)
        assert f"https_proxy={proxy}: the proxy refused (403: " in refused("https://models.example.org")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.9.8.7", "0.0.0.0"])
def test_this_machine_is_reached_past_the_proxy(host, endpoint, monkeypatch):
    monkeypatch.setenv("http_proxy", dead_url())
    url = endpoint.url.replace("127.0.0.1", host)
    if host == "127.9.8.7":  # the fake endpoint listens on 127.0.0.1 alone
        assert f"nothing answers at {url} (" in refused(url, transport.Away)
    else:
        assert client.Model(url, "gan").status() == [(3, "AVAILABLE", "")]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_this_machine_s_ipv6_address_and_no_proxy_go_past_the_proxy(scheme, monkeypatch):
    monkeypatch.setenv("http_proxy", dead_url())
    monkeypatch.setenv("no_proxy", "models.invalid")
    for host in ("[::1]", "models.invalid"):
        url = f"{scheme}://{host}:{free_port()}"
        line = refused(url, transport.Away)
        assert "proxy" not in line and url in line


@pytest.mark.parametrize("value", ["proxy:3128", "socks5://proxy:1080", "https://proxy:3128", "http://[::1", "http://"])
def test_a_proxy_that_cannot_be_used_is_one_line_with_its_variable(value, monkeypatch):
    monkeypatch.setenv("http_proxy", value)
    assert refused("http://models.example.org:8501") == f"http_proxy={value}: expected http://HOST:PORT, or nothing."


# Size.


def test_requests_are_cut_by_bytes_too(endpoint, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 100_000)
    images = np.random.default_rng(0).integers(100, 256, (16, 32, 32, 3), np.uint8)  # three digits each, the longest
    pngs = client.Model(endpoint.url, "vae").reconstruct(images, [0] * 16)
    assert len(set(pngs)) == 16
    assert len(endpoint.sizes) == 3 and 80_000 < endpoint.sizes[0] <= 100_000


def test_nine_pictures_of_512_px_are_more_than_one_request_and_fewer_are_not():
    endpoint = transport.connect("http://127.0.0.1:1", "vae", None, None)
    row = endpoint.row_bytes({"image": np.zeros((1, 512, 512, 3), np.uint8)})
    assert 8 * row < client.MOST_BYTES < 9 * row
    command_flags = (ROOT / "tfvae" / "serve.py").read_text()
    assert '"max_body_bytes", 32 << 20,' in command_flags and client.MOST_BYTES < 32 << 20


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_row_takes_no_more_bytes_than_is_reckoned_with(scheme):
    endpoint = transport.connect(f"{scheme}://127.0.0.1:1", "gan", None, None)
    draw = np.random.default_rng(0)
    inputs = {
        "image": np.full((7, 5, 5, 3), 255, np.uint8),
        "seed": np.full(7, 2**63 - 1, np.int64),
        "label": np.full(7, 2**31 - 1, np.int32),
        "truncation": np.full(7, np.float32(1.17549435e-38)),
        "z": draw.standard_normal((7, 100)).astype(np.float32) * np.float32(1e-30),
    }
    sent = []
    if scheme == "http":
        size = len(transport._json({name: value.tolist() for name, value in inputs.items()}))
    else:
        endpoint._call = lambda method, request, timeout: sent.append(request.ByteSize()) or request
        with contextlib.suppress(AttributeError):
            endpoint.predict("sample", inputs, 1.0)
        (size,) = sent
    assert 0.7 * size < 7 * endpoint.row_bytes(inputs) and size <= 7 * endpoint.row_bytes(inputs) + 1000


def test_a_proxy_that_refuses_a_size_unread_is_told_by_what_its_status_means():
    """As nginx does it: the answer is there before the body is."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def refuse():
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
        )
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.5)
        connection.close()

    threading.Thread(target=refuse, daemon=True).start()
    model = client.Model(f"http://127.0.0.1:{port}", "vae")
    model._signatures = {"encode": ({"image": (-1, 512, 512, 3)}, ["mean", "log_variance"])}
    with (
        listener,
        pytest.raises(transport.EndpointError, match="takes no request of 3,671,090 bytes .413: Request Entity"),
    ):
        model.encode(np.full((1, 512, 512, 3), 255, np.uint8))


def test_too_large_a_request_says_how_large_it_was(endpoint):
    endpoint.failures = [(413, "Maximum request body size 33554432 exceeded")]
    line = refused(endpoint.url, call=lambda model: model.sample(range(3), [0] * 3))
    assert "takes no request of 96 bytes (413: Maximum request body size 33554432 exceeded): ask for fewer" in line
