"""A small client of BuildKit's gRPC services over an engine's socket, and the client's side of a session: HTTP/2 by python3-h2,
messages by hand."""
import os
import queue
import socket
import stat
import struct
import sys
import threading

from tap import need

try:
    import h2.config
except ImportError:  # another Python than Debian's: it is of Python alone
    sys.path.append("/usr/lib/python3/dist-packages")
try:
    import h2.config
    import h2.connection
    import h2.errors
    import h2.events
except ImportError:
    h2 = None


# ---- messages ----

def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out + bytes([n]))


def encode(fields):
    """[(number, value)]: an int, bytes, text, or a list of such pairs, which is a message."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        value = encode(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
        out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def decode(data):
    """{number: [values]}; what is a message or a text is bytes."""
    out, at = {}, 0

    def take():
        nonlocal at
        n = shift = 0
        while True:
            byte = data[at]
            at += 1
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n
    while at < len(data):
        key = take()
        if key & 7 == 0:
            value = take()
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            n = take()
            value = data[at:at + n]
            at += n
        out.setdefault(key >> 3, []).append(value)
    return out


def texts(number, values):
    return [(number, [(1, k), (2, v)]) for k, v in values.items()]


# ---- HTTP/2 ----

class GrpcError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Call:
    def __init__(self, connection, number):
        self.connection, self.number = connection, number
        self.bytes, self.messages, self.headers = b"", queue.Queue(), {}

    def send(self, message=b""):
        self.connection.send(self.number, struct.pack(">BI", 0, len(message)) + message)

    def end(self):
        self.connection.send(self.number, b"", end=True)

    def receive(self, timeout=120):
        """The next message; None at the end, GrpcError where the other side says that it failed."""
        m = self.messages.get(timeout=timeout)
        if m is None:
            self.messages.put(None)
            status = self.headers.get("grpc-status", "0" if self.connection.is_server else "-1")
            if status != "0":
                raise GrpcError(int(status), self.headers.get("grpc-message", ""))
        return m

    def took(self, data):
        self.bytes += data
        while len(self.bytes) >= 5:
            n = struct.unpack(">I", self.bytes[1:5])[0]
            if len(self.bytes) < 5 + n:
                break
            self.messages.put(self.bytes[5:5 + n])
            self.bytes = self.bytes[5 + n:]


class Connection:
    """sock: anything with recv, sendall and close. handlers: {path: function(call)}: then we are the server."""

    def __init__(self, sock, handlers=None):
        need("python3-h2", h2)
        self.sock, self.handlers, self.calls = sock, handlers, {}
        self.is_server = handlers is not None
        self.lock = threading.Condition()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=not self.is_server))
        self.closed = False
        with self.lock:
            self.h2.initiate_connection()
            self.flush()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def call(self, path, *messages, headers=(), end=True):
        with self.lock:
            number = self.h2.get_next_available_stream_id()
            call = self.calls[number] = Call(self, number)
            self.h2.send_headers(number, [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
                                          ("content-type", "application/grpc"), ("te", "trailers"), *headers])
            self.flush()
        for m in messages:
            call.send(m)
        if end:
            call.end()
        return call

    def ask(self, path, message=b"", headers=()):
        call = self.call(path, message, headers=headers)
        answer = call.receive()
        assert call.receive() is None
        return decode(answer)

    def send(self, number, data, end=False):
        with self.lock:
            while data or end:
                window = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if data and window <= 0:
                    assert self.lock.wait(60) and not self.closed, "the other side takes no more"
                    continue
                piece, data = data[:window], data[window:]
                self.h2.send_data(number, piece, end_stream=end and not data)
                self.flush()
                end = end and bool(data)

    def answer(self, call, path):
        try:
            if path not in self.handlers:
                raise GrpcError(12, "unknown method")
            self.handlers[path](call)
            status, message = "0", ""
        except GrpcError as e:
            status, message = str(e.code), e.message
        except (OSError, AssertionError, h2.exceptions.ProtocolError):
            return
        with self.lock:
            try:
                self.h2.send_headers(call.number, [("grpc-status", status), ("grpc-message", message)], end_stream=True)
                self.flush()
            except (OSError, h2.exceptions.ProtocolError):
                pass

    def event(self, e):
        call = self.calls.get(getattr(e, "stream_id", None))
        if isinstance(e, h2.events.RequestReceived):
            call = self.calls[e.stream_id] = Call(self, e.stream_id)
            call.metadata = [(k.decode() if isinstance(k, bytes) else k, v.decode() if isinstance(v, bytes) else v) for k, v in e.headers]
            self.h2.send_headers(e.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
            threading.Thread(target=self.answer, args=(call, dict(call.metadata)[":path"]), daemon=True).start()
        elif isinstance(e, (h2.events.ResponseReceived, h2.events.TrailersReceived)) and call:
            call.headers.update({(k.decode() if isinstance(k, bytes) else k): (v.decode() if isinstance(v, bytes) else v) for k, v in e.headers})
        elif isinstance(e, h2.events.DataReceived):
            call.took(e.data)
            self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, (h2.events.StreamEnded, h2.events.StreamReset)) and call:
            call.messages.put(None)

    def read(self):
        try:
            while data := self.sock.recv(65536):
                with self.lock:
                    for e in self.h2.receive_data(data):
                        self.event(e)
                    self.flush()
                    self.lock.notify_all()
        except (OSError, h2.exceptions.ProtocolError):
            pass
        with self.lock:
            self.closed = True
            for c in self.calls.values():
                c.messages.put(None)
            self.lock.notify_all()

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        self.thread.join(30)


def upgrade(path, target, headers=()):
    """The socket behind POST target with Upgrade: h2c, on the unix socket at path."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(120)
    s.connect(path)
    lines = [f"POST {target} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: h2c", *(f"{k}: {v}" for k, v in headers)]
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        byte = s.recv(1)
        assert byte, f"{target} ended: {head!r}"
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    return s


# ---- a session ----

STAT, REQ, DATA, FIN = range(4)


def send_directory(call, files):
    """fsutil's sender; files: {path: content, None (a directory) or ("link", target)}, parents before what is in them."""
    listed = sorted(files.items(), key=lambda kv: kv[0].split("/"))
    for path, content in listed:
        mode = 1 << 31 | 0o755 if content is None else 1 << 27 | 0o777 if isinstance(content, tuple) else 0o644
        fields = [(1, path), (2, mode), (6, 10**18)]
        if isinstance(content, bytes):
            fields.append((5, len(content)))
        if isinstance(content, tuple):
            fields.append((7, content[1]))
        call.send(encode([(2, fields)]))
    call.send(encode([(1, STAT)]))
    while (m := call.receive()) is not None:
        packet = decode(m)
        kind, number = packet.get(1, [0])[0], packet.get(3, [0])[0]
        if kind == FIN:
            call.send(encode([(1, FIN)]))
            return
        assert kind == REQ, packet
        content = listed[number][1]
        for at in range(0, len(content), 32768):
            call.send(encode([(1, DATA), (3, number), (4, content[at:at + 32768])]))
        call.send(encode([(1, DATA), (3, number)]))


def session_handlers(directories, secrets=None, received=None):
    """directories: {"context": files, "dockerfile": files}. received: a list that gets what the engine sends as a stream."""
    def diff_copy(call):
        meta = call.metadata
        files = directories[dict(meta)["dir-name"]]
        follow = [v for k, v in meta if k == "followpaths"]
        excluded = [v for k, v in meta if k == "exclude-patterns"]
        send_directory(call, {k: v for k, v in files.items() if (not follow or k in follow) and k not in excluded})

    def get_secret(call):
        name = decode(call.receive())[1][0].decode()
        if name not in (secrets or {}):
            raise GrpcError(5, "not found")
        call.send(encode([(1, secrets[name])]))

    def file_send(call):
        while (m := call.receive()) is not None:
            received.append(decode(m).get(1, [b""])[0])
    return {**({} if received is None else {"/moby.filesync.v1.FileSend/DiffCopy": file_send}),
            "/moby.filesync.v1.FileSync/DiffCopy": diff_copy, "/moby.buildkit.secrets.v1.Secrets/GetSecret": get_secret}


class Tunnel:
    """What looks like a socket and goes through a call of Control/Session."""

    def __init__(self, call):
        self.call = call

    def recv(self, _):
        try:
            m = self.call.receive()
        except GrpcError:
            m = None
        return b"" if m is None else decode(m).get(1, [b""])[0]

    def sendall(self, data):
        self.call.send(encode([(1, data)]))

    def shutdown(self, _):
        self.call.end()

    def close(self):
        pass
