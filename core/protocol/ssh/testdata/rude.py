"""A client that breaks the protocol: rude.py PORT CASE. Prints how it was taken."""
import socket, struct, sys, time
import paramiko
from paramiko.message import Message

port, case = int(sys.argv[1]), sys.argv[2]

def message(kind, *parts):
    m = Message()
    m.add_byte(bytes([kind]))
    for p in parts:
        {int: m.add_int, str: m.add_string, bytes: m.add_string, bool: m.add_boolean}[type(p)](p)
    return m

def send(t, m):
    try:
        t._send_message(m)
    except Exception:  # it has been ended meanwhile
        pass

def begin():
    t = paramiko.Transport(socket.create_connection(("127.0.0.1", port)))
    t.start_client(timeout=20)
    return t

def known(user="x+web-1"):
    t = begin()
    t.auth_password(user, "token")
    return t

def run(t, command="echo on"):
    c = t.open_session(timeout=20)
    c.settimeout(20)
    c.exec_command(command)
    return c.makefile().read().decode().strip()

def gone(t):
    for _ in range(1000):
        if not t.is_active():
            return "disconnected"
        time.sleep(0.01)
    return "stays"

OPEN = (90, "session", 0, 1 << 20, 32768)
if case == "channel before a login":
    t = begin(); send(t, message(*OPEN)); print(gone(t))
elif case == "request before a login":
    t = begin(); send(t, message(80, "tcpip-forward", True, "localhost", 0)); print(gone(t))
elif case == "connection service before a login":
    t = begin(); send(t, message(5, "ssh-connection")); send(t, message(*OPEN)); print(gone(t))
elif case == "a login of its own after the login":
    t = known(); send(t, message(50, "boss+web-1", "ssh-connection", "none"))
    try:
        print(run(t))
    except Exception:
        print(gone(t))
elif case == "another user between two tries":
    t = begin()
    try:
        t.auth_password("boss+web-1", "wrong")
    except paramiko.AuthenticationException:
        pass
    try:
        t.auth_password("x+web-1", "token")
        print(run(t))
    except paramiko.AuthenticationException:
        print("refused")
elif case == "another user with the first one's key":
    t = begin()
    key = paramiko.ECDSAKey.generate()
    try:
        t.auth_publickey("x+web-1", key)
    except paramiko.AuthenticationException:
        pass
    try:
        t.auth_none("boss+web-1")
        print("let in")
    except (paramiko.AuthenticationException, paramiko.SSHException):
        print("refused")
elif case.startswith("answers: "):
    answers = {"too many": ["token"] * 1000, "none": [], "long": ["x" * 30000], "twice": ["token", "token"], "right": ["token"]}[case[9:]]
    t = begin()
    try:
        t.auth_interactive("x+web-1", lambda title, instructions, prompts: answers)
        print("let in")
    except paramiko.SSHException:
        print("refused")
elif case == "gssapi with a million mechanisms":
    t = begin()
    send(t, message(5, "ssh-userauth"))
    m = message(50, "x+web-1", "ssh-connection", "gssapi-with-mic", 1000000)
    for _ in range(8000):
        m.add_string(b"\x06\x01\x2a")
    send(t, m)
    t.close()
    print("sent")
elif case == "more than the window":
    t = known(); c = t.open_session(timeout=20)
    for _ in range(c.out_window_size // 30000 + 2):
        if t.is_active():
            send(t, message(94, c.remote_chanid, b"x" * 30000))
    print(gone(t))
elif case == "a window beyond all":
    t = known(); c = t.open_session(timeout=20)
    for _ in range(3):
        send(t, message(93, c.remote_chanid, 0xffffffff))
    print(gone(t))
elif case == "packets of no size":
    t = known(); send(t, message(90, "session", 7, 1 << 20, 0)); print(run(t))
elif case == "a window of nothing":
    t = known(); c = t.open_session(window_size=1, timeout=20); c.settimeout(20); c.exec_command("echo on"); print(c.recv(10).decode().strip()[:2])
elif case == "data of an unknown kind":
    t = known(); c = t.open_session(timeout=20); c.settimeout(20); c.exec_command("cat")
    send(t, message(95, c.remote_chanid, 7, b"aside"))
    c.sendall(b"on\n"); c.shutdown_write(); print(c.makefile().read().decode().strip())
elif case == "data for no channel":
    t = known(); send(t, message(94, 4711, b"x")); print(gone(t))
elif case == "a packet that is not whole":
    t = known(); t.sock.send(b"\x00\x00\x00\x40" + b"x" * 200); print(gone(t))
elif case == "files":
    t = known(); f = paramiko.SFTPClient.from_transport(t)
    print("on" if f.listdir(".") is not None else "")
else:
    sys.exit("no such case")
