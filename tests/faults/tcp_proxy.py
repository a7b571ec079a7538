"""A TCP proxy in front of a real server, that breaks what passes through it as networks and servers do."""

import contextlib
import re
import select
import socket
import threading


class TcpProxy:
    """Passes all on to a port of this host until it is told otherwise; each way to break holds until `restore`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._mode = "pass"
        self._loses_first = False
        self.lost: list[str] = []  # endpoints whose answer was kept back after the server had done what was asked
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections, and break those there are: the server is down."""
        self._mode = "refuse"
        # A thread that waits in accept() keeps a socket listening that is only closed.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break_all()

    def cut(self) -> None:
        """Accept connections and break them at once: a load balancer without a server behind it."""
        self._mode = "cut"
        self._break_all()

    def stall(self) -> None:
        """Accept connections and never answer: the server hangs, or a firewall drops packets."""
        self._mode = "stall"

    def lose_first_answers(self) -> None:
        """Let the server do what it is asked, and lose its first answer of each kind of request."""
        self._loses_first = True

    def lose_answers(self) -> None:
        """Let the server do what it is asked, and lose every answer."""
        self._mode = "lose"

    def restore(self) -> None:
        """Pass all on again."""
        if self._mode == "refuse":
            self._listener = self._listen(self.port)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        if self._mode == "stall":
            self._break_all()  # what was sent meanwhile is lost
        self._mode = "pass"

    def close(self) -> None:
        """End."""
        self.refuse()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._mode == "cut":
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(("127.0.0.1", self._target))
        with self._lock:
            self._open |= {client, server}
        try:
            self._pass_on(client, server)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {client, server}
            client.close()
            server.close()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        endpoint = ""
        while True:
            ready, _, _ = select.select([client, server], [], [], 0.5)
            if self._mode == "stall":
                threading.Event().wait(0.05)
                continue
            for source, target in ((client, server), (server, client)):
                if source not in ready:
                    continue
                data = source.recv(65536)
                if not data:
                    return
                if source is client and (line := re.match(rb"(GET|POST|PUT|PATCH|DELETE) ([^ ?]+)", data)):
                    path = re.sub("[0-9a-f]{32}|(?<=/artifacts/).*", "*", line[2].decode())
                    endpoint = f"{line[1].decode()} {path}"
                if source is server and self._is_lost(endpoint):
                    return
                target.sendall(data)

    def _is_lost(self, endpoint: str) -> bool:
        with self._lock:
            is_first = self._loses_first and endpoint not in self.lost and "/health" not in endpoint
            if is_first or self._mode == "lose":
                self.lost.append(endpoint)
                return True
        return False

    def _break_all(self) -> None:
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
