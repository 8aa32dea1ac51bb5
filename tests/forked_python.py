"""Python that has imported already what costs seconds: a server whose forks run scripts and Snakemake, and its client.

A job of the tiny study computes for a tenth of a second and imports for one to three. Tests whose claim is about processes start each job
as a user's run does, among them those that compare its tables and a figure with the study's first run of all; that one and all others
start it in a fork. As a program::

    python -I forked_python.py serve SOCKET PYTHON MODULE...   serves until its standard input is closed
    python -I -S forked_python.py ask SOCKET ARGUMENT...       does what python ARGUMENT... would do; its fork ends with it

To a fork, PYTHON is the path of Python, by which Snakemake starts a job. The server imports nothing of the project, whose modules
every fork imports from its own checkout.
"""

import marshal
import os
import socket
import sys
from contextlib import suppress


def ask(address: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> int:
    """Run Python with these arguments in a fork; its exit status, 137 where it was killed.

    Args:
        arguments: path of a script, or ``-m`` and a module; and what follows.
        streams: file descriptors of its standard streams.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        request = marshal.dumps([arguments, folder, environment])
        socket.send_fds(server, [len(request).to_bytes(8, "big")], streams)
        server.sendall(request)
        answer = server.recv(1)
    return answer[0] if answer else 137


def serve(address: str, python: str, modules: list[str]) -> None:
    """Import modules when the first client comes, then fork for every client."""
    import select
    import signal
    from importlib import import_module

    signal.signal(signal.SIGCHLD, _forget)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if sys.executable != python:
                os.environ["MPLBACKEND"] = "agg"  # as rules/common.smk sets it for jobs; read on import
                for module in modules:
                    import_module(module)
                sys.executable = python
            if not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _answer(client)
            client.close()


def _forget(*_) -> None:
    """Let forks that ended leave nothing but the time that they took."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _answer(client: socket.socket) -> None:
    """What a fork does: become the process that its client asks for."""
    import threading

    size, streams, _, _ = socket.recv_fds(client, 8, 3)
    request = b""
    while len(request) < int.from_bytes(size, "big"):
        request += client.recv(2**20)
    arguments, folder, environment = marshal.loads(request)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    status = _run(arguments)
    client.send(bytes([status]))
    os._exit(status)


def _end_with(client: socket.socket) -> None:
    import signal

    client.recv(1)  # it sends nothing: this is its end
    os.kill(os.getpid(), signal.SIGKILL)


def _run(arguments: list[str]) -> int:
    """Run a script or module as Python's command line does; its exit status."""
    import atexit
    import runpy
    import threading
    import traceback

    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    as_module = arguments[0] == "-m"
    first = os.getcwd() if as_module else os.path.dirname(os.path.abspath(arguments[0]))
    sys.path[:0] = [first, *filter(None, path)]
    sys.argv[:] = arguments[as_module:]
    if torch := sys.modules.get("torch"):  # it read this variable on import
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()))
    status = 0
    try:
        if as_module:
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status & 0xFF


if __name__ == "__main__":
    what, address, *rest = sys.argv[1:]
    if what == "serve":
        serve(address, rest[0], rest[1:])
    else:
        sys.exit(ask(address, rest, os.getcwd(), dict(os.environ), [0, 1, 2]))
