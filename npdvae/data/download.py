"""A download that cannot surprise: a size cap, time limits, a check of the content, an atomic write."""
import http.client
import os
import pathlib
import tempfile
import time
import urllib.error
import urllib.request

from tqdm import tqdm

CHUNK = 1 << 16


def fetch(urls, target, verify, cap, timeout=20.0, deadline=600.0, progress=True):
    """Bytes of the first URL that answers and whose content `verify(content, url)` accepts, written to `target`.

    cap: bytes; timeout: seconds without an answer; deadline: seconds for one URL. The file appears whole or not at
    all. Raises ValueError with one line that says what went wrong at each URL.
    """
    faults = []
    for url in urls:
        try:
            content = _get(url, cap, timeout, deadline, progress)
            checked = verify(content, url)
        except (OSError, ValueError, http.client.HTTPException) as fault:
            faults.append(str(fault) if str(fault).startswith(url) else f"{url}: {_reason(fault)}")
            continue
        write_atomic(target, content)
        return checked
    raise ValueError(f"could not download {pathlib.Path(target).name}: {'; '.join(faults)}")


def write_atomic(target, content):
    """Write bytes to a temporary file beside `target`, sync, rename."""
    target = pathlib.Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, target)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


def _get(url, cap, timeout, deadline, progress):
    end = time.monotonic() + deadline
    request = urllib.request.Request(url, headers={"User-Agent": "npdvae"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        size = int(answer.headers.get("Content-Length") or -1)
        if size > cap:
            raise ValueError(f"{size} bytes announced, at most {cap} expected")
        content = bytearray()
        with tqdm(total=size if size >= 0 else None, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1],
                  disable=not progress, leave=False) as bar:
            while more := answer.read1(CHUNK):
                content += more
                bar.update(len(more))
                if len(content) > cap:
                    raise ValueError(f"more than the {cap} bytes expected")
                if time.monotonic() > end:
                    raise ValueError(f"too slow: {len(content)} bytes in {deadline:g} s")
    if 0 <= size != len(content):
        raise ValueError(f"truncated: {len(content)} of {size} bytes")
    return bytes(content)


def _reason(fault):
    if isinstance(fault, urllib.error.HTTPError):
        return f"HTTP {fault.code} {fault.reason}"
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    reason = getattr(fault, "reason", fault)
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return " ".join(str(reason).split()) or type(fault).__name__
