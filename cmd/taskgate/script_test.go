package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/internal/dextest"
	"github.com/taskgate/taskgate/internal/pgtest"
	"github.com/taskgate/taskgate/internal/sshtest"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"taskgate": main, "tracer": tracer, "hostile": hostile})
}

// parts are what all scripts share: a server.
type parts struct {
	pg   *pgtest.Server
	next int
	mu   sync.Mutex
}

// TestScripts runs testdata/script: the real binary as its users call it, with
// real psql and a real server, each script with a database shop of its own.
//
//	start NAME COMMAND…  starts a command that prints its addresses when ready; $NAME_postgres and the like, or $NAME
//	end NAME             sends SIGTERM and waits; its log is stderr then
//	login USER PASSWORD  logs in at the identity provider $idp through the gateway $gw
//	dex USER=GROUP,…     starts Dex with these users as $idp; again: with these users from now on
//	dex USER             logs in at it, as login does; with the word browser, by one
//	status N ARG…        runs taskgate, which has to end with status N
//	signal NAME SIGNAL   sends HUP, TERM or KILL; KILL waits for the end
//	files NAME N         lets NAME have no more than N files open
//	flood ADDRESS N      opens N connections that say nothing, and holds them; 0 lets them all go
//	guide FILE           runs every sh block of a document
//	confirmed USER PASSWORD COMMAND…  runs it, and logs in as USER where it asks for that
//	until FILE TEXT      waits until the file has the text
//	admin SQL            runs it at the server itself, as its superuser
//	sshd NAME            starts a real sshd; FILE NAME.key opens it, and @NAME.address@, @NAME.host_key@ and @NAME.user@ in gateway.yaml stand for it
func TestScripts(t *testing.T) {
	t.Parallel()
	guard, modules := built(t)
	pg, err := pgtest.Start(pgtest.Major())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pg.Stop() }()
	shared := &parts{pg: pg}
	t.Run("scripts", func(t *testing.T) { // so that they are over before the server stops
		testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error { return shared.setup(e, guard, modules) }, RequireUniqueNames: true,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){"start": start, "end": end, "login": login, "admin": shared.admin, "dex": shared.dex,
				"status": status, "signal": sendSignal, "files": files, "flood": flood, "guide": guide, "until": until, "confirmed": confirmed, "sshd": sshd}})
	})
}

func (p *parts) setup(e *testscript.Env, guard, modules string) error {
	p.mu.Lock()
	p.next++
	database := fmt.Sprintf("shop%d", p.next)
	err := p.pg.Database(database, pgtest.Shop)
	p.mu.Unlock()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"password": p.pg.Password, "ca.pem": ""} {
		if name == "ca.pem" {
			b, err := os.ReadFile(p.pg.CA)
			if err != nil {
				return err
			}
			text = string(b)
		}
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(e.WorkDir, "data"), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(modules, filepath.Join(e.WorkDir, "data", "modules")); err != nil {
		return err
	}
	own, rest, _ := strings.Cut(e.Getenv("PATH"), ":") // testscript's comes first
	e.Setenv("PATH", own+":"+pgtest.Clients+":"+rest)
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("TASKS", guard)
	e.Setenv("DATABASE", database)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOSUMDB", "GOFLAGS", "GOTOOLCHAIN"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return err
		}
		e.Setenv(name, strings.TrimSpace(string(out)))
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	e.Setenv("ROOT", root)
	e.Setenv("TASKGATE_RESOURCES__SHOP__ADDRESS", fmt.Sprintf("localhost:%d", p.pg.Port))
	e.Setenv("TASKGATE_RESOURCES__SHOP__DATABASE", database)
	e.Values["running"], e.Values["held"] = map[string]*running{}, &[]net.Conn{}
	e.Values["dex"] = new(*dextest.Server)
	return nil
}

type running struct {
	cmd *exec.Cmd
	log *os.File
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME COMMAND…")
	}
	cmd := command(ts, args[1:]...)
	log, err := os.Create(ts.MkAbs(args[0] + ".log"))
	ts.Check(err)
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	r := &running{cmd, log}
	ts.Value("running").(map[string]*running)[args[0]] = r
	ts.Defer(func() { r.end() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.end()
		ts.Fatalf("%s does not come up: %s", args[0], ts.ReadFile(args[0]+".log"))
	}
	line = strings.TrimSpace(line)
	var addresses map[string]string
	if json.Unmarshal([]byte(line), &addresses) != nil {
		ts.Setenv(args[0], line)
		return
	}
	for name, address := range addresses {
		ts.Setenv(args[0]+"_"+name, address)
	}
}

// command is one that testscript has put on the PATH, in the script's directory.
func command(ts *testscript.TestScript, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(strings.SplitN(ts.Getenv("PATH"), string(os.PathListSeparator), 2)[0], args[0]), args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnv(ts)
	return cmd
}

func login(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: login USER PASSWORD")
	}
	loginBy(ts, func(url, code string) error {
		b, err := command(ts, "taskgate", "dev-confirm", url, code, "--user", args[0], "--password", args[1]).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
		return nil
	})
}

// loginBy runs `taskgate login` while confirm does what its user does.
func loginBy(ts *testscript.TestScript, confirm func(url, code string) error, flags ...string) {
	cmd := command(ts, append([]string{"taskgate", "login", "--gateway", "http://" + ts.Getenv("gw_api")}, flags...)...)
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines, url := bufio.NewScanner(out), ""
	for lines.Scan() {
		if u, ok := strings.CutPrefix(lines.Text(), "open  "); ok {
			url = u
		}
		code, ok := strings.CutPrefix(lines.Text(), "code  ")
		if ok || len(flags) > 0 && strings.HasPrefix(lines.Text(), "waiting") {
			if err := confirm(url, code); err != nil {
				ts.Logf("%v", err)
				_ = cmd.Process.Kill()
			}
		}
	}
	ts.Check(cmd.Wait())
}

func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N ARG…")
	}
	err := ts.Exec(filepath.Join(strings.SplitN(ts.Getenv("PATH"), string(os.PathListSeparator), 2)[0], "taskgate"), args[1:]...)
	got := 0
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("status %d, not %s", got, args[0])
	}
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	r := ts.Value("running").(map[string]*running)[args[0]]
	if neg || r == nil || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal NAME HUP|TERM|KILL")
	}
	ts.Check(r.cmd.Process.Signal(signals[args[1]]))
	if args[1] == "KILL" {
		r.end()
	}
}

func files(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value("running").(map[string]*running)[args[0]]
	n, err := strconv.ParseUint(args[1], 10, 32)
	ts.Check(err)
	ts.Check(unix.Prlimit(r.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}, nil))
}

func flood(ts *testscript.TestScript, neg bool, args []string) {
	held, _ := ts.Value("held").(*[]net.Conn)
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for _, nc := range *held {
		if n == 0 {
			nc.Close()
		}
	}
	for range n {
		nc, err := net.Dial("tcp", args[0])
		ts.Check(err)
		ts.Defer(func() { nc.Close() })
		*held = append(*held, nc)
	}
}

func guide(ts *testscript.TestScript, neg bool, args []string) {
	text, blocks := ts.ReadFile(args[0]), 0
	for _, part := range strings.Split(text, "```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks++
		cmd := exec.Command("bash", "-eu", "-c", block)
		cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnv(ts)
		if out, err := cmd.CombinedOutput(); err != nil || neg {
			ts.Fatalf("%s\n%s%v", block, out, err)
		}
	}
	if blocks == 0 {
		ts.Fatalf("%s has no sh block", args[0])
	}
}

func sshd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sshd NAME")
	}
	dir := ts.MkAbs(args[0] + ".sshd")
	ts.Check(os.Mkdir(dir, 0o700))
	s, err := sshtest.Run(dir, sshtest.Options{})
	ts.Check(err)
	ts.Defer(s.Stop)
	key, err := os.ReadFile(s.ClientKeyFile)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), key, 0o600))
	text := strings.NewReplacer("@"+args[0]+".address@", s.Address, "@"+args[0]+".host_key@", ssh.FingerprintSHA256(s.HostKey), "@"+args[0]+".user@", s.User).Replace(ts.ReadFile("gateway.yaml"))
	ts.Check(os.WriteFile(ts.MkAbs("gateway.yaml"), []byte(text), 0o600))
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	for range 600 {
		if strings.Contains(ts.ReadFile(args[0]), args[1]) != neg {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%q never comes: %s", args[1], ts.ReadFile(args[0]))
}

// scriptEnv is the environment of the script.
func scriptEnv(ts *testscript.TestScript) (env []string) {
	for _, name := range []string{"PATH", "HOME", "WORK", "TMPDIR", "TASKS", "DATABASE", "TASKGATE_RESOURCES__SHOP__ADDRESS", "TASKGATE_RESOURCES__SHOP__DATABASE", "TASKGATE_ISSUERS__0__URL"} {
		if v := ts.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func (r *running) end() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(20*time.Second, func() { _ = r.cmd.Process.Kill() })
	_ = r.cmd.Wait()
	timer.Stop()
	r.log.Close()
	r.cmd = nil
}

func end(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value("running").(map[string]*running)[args[0]]
	if neg || r == nil {
		ts.Fatalf("%s does not run", args[0])
	}
	r.end()
}

func (p *parts) admin(ts *testscript.TestScript, neg bool, args []string) {
	out, err := p.pg.Psql(ts.Getenv("DATABASE"), strings.Join(args, " "))
	if (err != nil) != neg {
		ts.Fatalf("%v %s", err, out)
	}
}
