package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/taskgate/taskgate/core/server"
)

// Files of SSH beside the kept login. The key is new with every login, a
// certificate with every few minutes of use.
const (
	sshKeyFile   = "id_ed25519"
	sshKnown     = "known_hosts"
	sshAlias     = "taskgate" // the gateway's name in there
	sshCert      = "-cert.pub"
	sshSpare     = time.Minute // a certificate that lasts no longer is replaced
	sshBlock     = "# taskgate begin: written by `taskgate ssh-config`, changes are lost\n"
	sshBlockEnds = "# taskgate end\n"
)

func sshPath(name string) (string, error) {
	path, err := keptPath()
	return filepath.Join(filepath.Dir(path), "ssh", name), err
}

// forgetSSH removes what an earlier login has left.
func forgetSSH() error {
	known, err := sshPath(sshKnown)
	if err != nil {
		return err
	}
	certs, err := filepath.Glob(filepath.Join(filepath.Dir(known), "*"+sshCert))
	key := filepath.Join(filepath.Dir(known), sshKeyFile)
	for _, path := range append(certs, known, key, key+".pub") {
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// beginSSH makes a key for a new login, where the gateway takes anybody by SSH.
func (k *kept) beginSSH(ctx context.Context) error {
	if err := forgetSSH(); err != nil {
		return err
	}
	front, err := k.sshFront(ctx)
	if errors.Is(err, errAbsent) {
		return nil
	} else if err != nil {
		return err
	}
	if err := knowHost(front); err != nil {
		return err
	}
	_, err = sshPublic()
	return err
}

// sshFront asks how the gateway is reached by SSH.
func (k *kept) sshFront(ctx context.Context) (*server.SSH, error) {
	front := &server.SSH{}
	return front, k.do(ctx, http.MethodGet, "/v1/ssh", nil, front)
}

// knowHost writes the gateway's host keys down for ssh.
func knowHost(front *server.SSH) error {
	var text strings.Builder
	for _, key := range front.HostKeys {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
		if err != nil {
			return fmt.Errorf("the gateway names a host key that is none: %w", err)
		}
		text.WriteString(sshAlias + " " + string(ssh.MarshalAuthorizedKey(k)))
	}
	path, err := sshPath(sshKnown)
	if err != nil {
		return err
	}
	if had, err := os.ReadFile(path); err == nil && string(had) == text.String() {
		return nil
	}
	return replace(path, []byte(text.String()), 0o600)
}

// sshPublic gives the public key of this login, made where it is missing.
func sshPublic() (ssh.PublicKey, error) {
	path, err := sshPath(sshKeyFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(key, "taskgate")
		if err != nil {
			return nil, err
		}
		text = pem.EncodeToMemory(block)
		if err := replace(path, text, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, hinted{fmt.Errorf("%s: %w", path, err), "`taskgate login` makes another"}
	}
	return signer.PublicKey(), nil
}

// replace writes a file whole or not at all.
func replace(path string, text []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".taskgate-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// certificate sees that there is a certificate for a task that lasts for a
// while, and gives its file.
func (k *kept) certificate(ctx context.Context, task string, lasts time.Duration) (string, *ssh.Certificate, error) {
	public, err := sshPublic()
	if err != nil {
		return "", nil, err
	}
	if !hostName(task) {
		return "", nil, fmt.Errorf("%q is no name of a task", task)
	}
	path, err := sshPath(task + sshCert)
	if err != nil {
		return "", nil, err
	}
	if c := freshCertificate(path, public); c != nil && lasts == 0 {
		return path, c, nil
	}
	front, err := k.sshFront(ctx)
	if errors.Is(err, errAbsent) {
		return "", nil, hinted{errors.New("this gateway takes nobody by SSH"), "its operator adds `listeners: {ssh: …}`"}
	} else if err != nil {
		return "", nil, err
	}
	if err := knowHost(front); err != nil {
		return "", nil, err
	}
	got := server.Certificate{}
	in := map[string]any{"public_key": string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(public))), "task": task, "minutes": int64(lasts / time.Minute)}
	if err := k.do(ctx, http.MethodPost, "/v1/ssh/certificate", in, &got); err != nil {
		return "", nil, err
	}
	c, err := readCertificate([]byte(got.Certificate))
	if err != nil {
		return "", nil, fmt.Errorf("the gateway answers with no certificate: %w", err)
	}
	return path, c, replace(path, ssh.MarshalAuthorizedKey(c), 0o600)
}

func readCertificate(text []byte) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, err
	}
	c, ok := key.(*ssh.Certificate)
	if !ok {
		return nil, errors.New("a bare key")
	}
	return c, nil
}

// freshCertificate gives the certificate of a file, where it is this key's and
// lasts a while. How old it is says the file: the gateway's clock may differ.
func freshCertificate(path string, public ssh.PublicKey) *ssh.Certificate {
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	c, err := readCertificate(text)
	if err != nil || !bytes.Equal(c.Key.Marshal(), public.Marshal()) {
		return nil
	}
	age := time.Since(st.ModTime())
	if lasts := time.Duration(c.ValidBefore-c.ValidAfter) * time.Second; age < 0 || age+sshSpare > lasts {
		return nil
	}
	return c
}

func sshCertificateCommand() *cobra.Command {
	lasts := time.Duration(0)
	c := &cobra.Command{Use: "ssh-certificate TASK", Short: "get a certificate for ssh, where there is none that lasts", Args: words, Annotations: map[string]string{away: "yes"},
		Long: "Sees that a certificate for the task lies beside your login, and prints its file. It is good for 10 minutes unless --for says otherwise, and is asked for again when less than one is left. What `taskgate ssh-config` writes runs this at every connection.",
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("for") && (lasts < time.Minute || lasts > time.Hour) {
				return fmt.Errorf("--for: 1m to 1h is expected, not %s", lasts)
			}
			path, c, err := k.certificate(cmd.Context(), args[0], lasts)
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(map[string]any{"file": path, "task": args[0], "expires": time.Unix(int64(c.ValidBefore), 0).UTC()})
			}
			fmt.Println(path)
			return nil
		}}
	c.Flags().DurationVar(&lasts, "for", 0, "get a new one that is good for this long, an hour at most")
	c.Flags().Bool("json", false, "for programs")
	c.ValidArgsFunction = mine(func(t server.TaskStatus) []string {
		if len(t.SSH) == 0 {
			return nil
		}
		return []string{t.Name}
	})
	return c
}

// sshHost is a resource for a task, as ssh is told of it.
type sshHost struct {
	Names    []string `json:"names"` // TASK+RESOURCE, and RESOURCE where one task alone has it
	Task     string   `json:"task"`
	Resource string   `json:"resource"`
	HostName string   `json:"hostname"`
	Port     string   `json:"port"`
	User     string   `json:"user"`
}

// sshHosts gives all that a subject's tasks reach.
func (k *kept) sshHosts(m *server.Me, front *server.SSH) ([]sshHost, error) {
	host, port, err := k.reach(front.Address)
	if err != nil {
		return nil, err
	}
	if !hostName(strings.ReplaceAll(host, ":", "")) {
		return nil, fmt.Errorf("%q is no name of a host", host)
	}
	tasks, list := map[string]int{}, []sshHost{}
	for _, t := range m.Tasks {
		for _, r := range t.SSH {
			tasks[r]++
		}
	}
	for _, t := range m.Tasks {
		for _, r := range t.SSH {
			if !hostName(r) || !hostName(t.Name) { // nothing that ssh takes for a pattern, an option or two words
				fmt.Fprintf(os.Stderr, "taskgate: %q of task %q is left out: ssh takes no such name\n", r, t.Name)
				continue
			}
			h := sshHost{Names: []string{t.Name + "+" + r}, Task: t.Name, Resource: r, HostName: host, Port: port, User: t.Name + "+" + r}
			if tasks[r] == 1 {
				h.Names = append(h.Names, r)
			}
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b sshHost) int {
		return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Task, b.Task))
	})
	if len(list) == 0 {
		return nil, hinted{errors.New("none of your tasks has a resource that is reached by SSH"), "`taskgate whoami` lists your tasks and their resources"}
	}
	return list, nil
}

// hostName says whether ssh takes a name as one word that means itself.
func hostName(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// options are what ssh has to be told to reach a host: keyword and value.
func (h *sshHost) options() ([][2]string, error) {
	list := [][2]string{{"HostName", h.HostName}, {"Port", h.Port}, {"User", h.User}, {"IdentitiesOnly", "yes"}, {"HostKeyAlias", sshAlias}, {"StrictHostKeyChecking", "yes"}, {"GlobalKnownHostsFile", "/dev/null"}}
	for _, f := range [][2]string{{"UserKnownHostsFile", sshKnown}, {"IdentityFile", sshKeyFile}} {
		path, err := quotedPath(f[1])
		if err != nil {
			return nil, err
		}
		list = append(list, [2]string{f[0], path})
	}
	return list, nil
}

// quotedPath gives a file of SSH as ssh_config takes it.
func quotedPath(name string) (string, error) {
	path, err := sshPath(name)
	if err != nil {
		return "", err
	}
	return quoted(path)
}

func quoted(path string) (string, error) {
	if strings.ContainsAny(path, "\"'\\$\n\r") {
		return "", fmt.Errorf("ssh takes no such path: %q", path)
	}
	return `"` + strings.ReplaceAll(path, "%", "%%") + `"`, nil
}

// sshConfig writes what ssh has to know of all hosts. Self is this program.
func sshConfig(self string, hosts []sshHost) (string, error) {
	program, err := quoted(self)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(sshBlock)
	for _, h := range hosts {
		certificate, err := quotedPath(h.Task + sshCert)
		if err != nil {
			return "", err
		}
		options, err := h.options()
		if err != nil {
			return "", err
		}
		// originalhost is the name that was typed: host would be the gateway's by then.
		fmt.Fprintf(&b, "Match originalhost %s exec \"'%s' ssh-certificate %s\"\n  CertificateFile %s\n", strings.Join(h.Names, ","), strings.Trim(program, `"`), h.Task, certificate)
		fmt.Fprintf(&b, "Host %s\n", strings.Join(h.Names, " "))
		for _, o := range options {
			fmt.Fprintf(&b, "  %s %s\n", o[0], o[1])
		}
	}
	b.WriteString("Match all\n" + sshBlockEnds) // what stands behind is no part of the last host
	return b.String(), nil
}

// writeBlock replaces our block in a file, or puts it first: of several values
// ssh takes the first.
func writeBlock(path, block string) error {
	mode := fs.FileMode(0o600)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
	}
	before, rest, had := strings.Cut(string(old), sshBlock)
	if !had {
		return replace(path, []byte(block+string(old)), mode)
	}
	_, after, ended := strings.Cut(rest, sshBlockEnds)
	if !ended || strings.Contains(rest, sshBlock) {
		return hinted{fmt.Errorf("%s: the block of taskgate has no end, or is there twice", path), "remove it, from `# taskgate begin` on, and try again"}
	}
	return replace(path, []byte(before+block+after), mode)
}

// tellHosts says which names were written, and why a resource has no name of its
// own.
func tellHosts(file string, hosts []sshHost) {
	tasks := map[string][]string{}
	for _, h := range hosts {
		fmt.Printf("%s: %s\n", file, strings.Join(h.Names, ", "))
		tasks[h.Resource] = append(tasks[h.Resource], h.Task)
	}
	for _, r := range slices.Sorted(maps.Keys(tasks)) {
		if len(tasks[r]) > 1 {
			fmt.Printf("%s alone is not written: your tasks %s have it, and the name says for which\n", r, strings.Join(tasks[r], ", "))
		}
	}
}

func sshConfigCommand() *cobra.Command {
	file := ""
	c := &cobra.Command{Use: "ssh-config", Short: "print what ssh has to know to reach your tasks' hosts", Args: words, Annotations: map[string]string{away: "yes"},
		Long: `Prints a part of ssh's configuration, so that ssh, scp, sftp, rsync and whatever else runs ssh reach the resources of your tasks as they are. A host is called TASK+RESOURCE, and RESOURCE alone where one of your tasks has it and no other. Each connection sees to a fresh certificate (taskgate ssh-certificate). It needs a login (taskgate login); run it again after a change of your tasks.

--write puts it into a file of ssh, first or in the place of what was written before: taskgate ssh-config --write ~/.ssh/config`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			_, hosts, err := k.hosts(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
				return print(hosts)
			}
			self, err := exec.LookPath(os.Args[0]) // by the name that it is called, which another version may get
			if err == nil {
				self, err = filepath.Abs(self)
			}
			if err != nil {
				return err
			}
			block, err := sshConfig(self, hosts)
			if err != nil {
				return err
			}
			if file == "" {
				fmt.Print(block)
				return nil
			}
			if err := writeBlock(file, block); err != nil {
				return err
			}
			tellHosts(file, hosts)
			return nil
		}}
	c.Flags().StringVar(&file, "write", "", "write it into this file, most likely ~/.ssh/config")
	c.Flags().Bool("json", false, "for programs: the hosts alone")
	c.MarkFlagsMutuallyExclusive("write", "json")
	return c
}

// hosts asks the gateway what may be reached, and writes down how it is known.
func (k *kept) hosts(ctx context.Context) (*server.Me, []sshHost, error) {
	m, err := k.me(ctx)
	if err != nil {
		return nil, nil, err
	}
	front, err := k.sshFront(ctx)
	if errors.Is(err, errAbsent) {
		return nil, nil, hinted{errors.New("this gateway takes nobody by SSH"), "its operator adds `listeners: {ssh: …}`"}
	} else if err != nil {
		return nil, nil, err
	}
	if err := knowHost(front); err != nil {
		return nil, nil, err
	}
	if _, err := sshPublic(); err != nil {
		return nil, nil, err
	}
	hosts, err := k.sshHosts(m, front)
	return m, hosts, err
}

func sshCommand() *cobra.Command {
	task := ""
	c := &cobra.Command{Use: "ssh RESOURCE [-- SSH ARGUMENTS]", Short: "run ssh to a resource, for a task", Annotations: map[string]string{away: "yes"},
		Long:    "Runs ssh with a certificate for this task. `taskgate login` comes first, `taskgate whoami` lists your tasks. What stands behind -- goes to ssh. For plain ssh, scp, sftp and what runs these: taskgate ssh-config.",
		Example: "  taskgate ssh web-1 --task look -- uptime", Args: behindDash("ssh", "taskgate ssh RESOURCE --task TASK -- uptime"), RunE: func(cmd *cobra.Command, args []string) error {
			k, err := loadKept()
			if err != nil {
				return err
			}
			m, hosts, err := k.hosts(cmd.Context())
			if err != nil {
				return err
			}
			if task, err = chooseTask(m, task, args[0]); err != nil {
				return err
			}
			i := slices.IndexFunc(hosts, func(h sshHost) bool { return h.Task == task && h.Resource == args[0] })
			if i < 0 {
				return hinted{fmt.Errorf("task %q has no resource %q that is reached by SSH", task, args[0]), "`taskgate ssh-config` lists those that are"}
			}
			program, err := exec.LookPath("ssh")
			if err != nil {
				return hinted{err, "install the package openssh-client"}
			}
			if _, _, err := k.certificate(cmd.Context(), task, 0); err != nil {
				return err
			}
			options, err := hosts[i].options()
			if err != nil {
				return err
			}
			certificate, err := quotedPath(task + sshCert)
			if err != nil {
				return err
			}
			argv := []string{"ssh"}
			for _, o := range append(options, [2]string{"CertificateFile", certificate}) {
				argv = append(argv, "-o", o[0]+"="+o[1])
			}
			return syscall.Exec(program, append(append(argv, args[0]), args[1:]...), os.Environ())
		}}
	c.Flags().StringVar(&task, "task", "", "the task; may be left out where only one of yours covers the resource")
	_ = c.RegisterFlagCompletionFunc("task", mine(func(t server.TaskStatus) []string { return []string{t.Name} }))
	c.ValidArgsFunction = mine(func(t server.TaskStatus) []string { return t.SSH })
	return c
}
