package server

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"sort"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/taskgate/taskgate/core/gate"
	"github.com/taskgate/taskgate/core/strict"
)

type peerKey struct{}

// peer names the OS user at the other end of a Unix socket.
func peer(nc net.Conn) string {
	u, ok := nc.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ""
	}
	name := ""
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			name = "uid " + strconv.Itoa(int(cred.Uid))
			if who, err := user.LookupId(strconv.Itoa(int(cred.Uid))); err == nil {
				name = who.Username
			}
		}
	})
	return name
}

// SessionStatus is one open session as `taskgate status` shows it.
type SessionStatus struct {
	ID       string    `json:"id"`
	Subject  string    `json:"subject"`
	Task     string    `json:"task"`
	Resource string    `json:"resource"`
	Protocol string    `json:"protocol"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"`
	Commands uint64    `json:"commands"`
	Denied   uint64    `json:"denied"`
}

// ListenerStatus is one open listener.
type ListenerStatus struct {
	Name    string     `json:"name"`
	Address string     `json:"address"`
	TLS     bool       `json:"tls"`
	Expires *time.Time `json:"expires,omitempty"`  // its certificate
	HostKey string     `json:"host_key,omitempty"` // of SSH: the fingerprint that clients know it by
}

// Status is what `taskgate status` shows.
type Status struct {
	Version    string           `json:"version"`
	Ready      bool             `json:"ready"`
	Why        string           `json:"why,omitempty"` // it is not
	Generation uint64           `json:"generation"`
	Policy     string           `json:"policy"`
	Tasks      []string         `json:"tasks"`
	Guards     []gate.Module    `json:"guards"`
	Listeners  []ListenerStatus `json:"listeners"`
	Sessions   []SessionStatus  `json:"sessions"`
	Held       int              `json:"held"` // commands that wait for people
}

// Listeners gives those that are open, by name.
func (s *Server) Listeners() (list []ListenerStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.fronts {
		l := ListenerStatus{Name: name, Address: f.Addr().String()}
		if t := f.tls.Load(); t != nil {
			l.TLS, l.Expires = true, &t.Certificates[0].Leaf.NotAfter
		}
		if k := s.keys.Load(); k != nil && name == "ssh" {
			l.HostKey = ssh.FingerprintSHA256(k.host.PublicKey())
		}
		list = append(list, l)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// Status says how the gateway stands.
func (s *Server) Status() Status {
	gen := s.gate.Current()
	st := Status{Version: s.Version, Ready: true, Generation: gen.Number, Policy: gen.Digest, Listeners: s.Listeners(), Sessions: []SessionStatus{}, Held: s.approvals.Counts().Waiting}
	if why := s.unready(); why != nil {
		st.Ready, st.Why = false, why.Error()
	}
	for name := range gen.Tasks {
		st.Tasks = append(st.Tasks, name)
	}
	sort.Strings(st.Tasks)
	for _, g := range gen.Guards {
		st.Guards = append(st.Guards, gate.Module{Name: g.Name(), Digest: g.Digest()})
	}
	for _, x := range s.gate.Sessions() {
		a := x.About()
		n, denied := x.Counts()
		st.Sessions = append(st.Sessions, SessionStatus{x.ID(), a.Subject, a.Task, a.Resource, a.Protocol, a.Address, x.Started(), n, denied})
	}
	sort.Slice(st.Sessions, func(i, j int) bool { return st.Sessions[i].Since.Before(st.Sessions[j].Since) })
	return st
}

// admin is what the socket in the data directory offers: whoever can open it
// is the operator.
func (s *Server) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Status()) })
	mux.HandleFunc("POST /reload", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		changes, err := s.Reload(r.Context(), who)
		if err != nil {
			reply(w, http.StatusConflict, map[string]any{"error": err.Error(), "faults": strict.Of(err)})
			return
		}
		reply(w, http.StatusOK, map[string]any{"changes": changes, "generation": s.gate.Current().Number})
	})
	mux.HandleFunc("POST /kill", func(w http.ResponseWriter, r *http.Request) {
		who, _ := r.Context().Value(peerKey{}).(string)
		id, subject := r.FormValue("session"), r.FormValue("subject")
		if id == "" && subject == "" {
			reply(w, http.StatusBadRequest, map[string]string{"error": "name a session or a subject"})
			return
		}
		if err := s.note(who, fmt.Sprintf("kill: session %q, subject %q", id, subject)); err != nil {
			reply(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
			return
		}
		n := s.gate.Kill("ended by the operator "+who, func(x *gate.Session) bool {
			return id != "" && x.ID() == id || subject != "" && x.About().Subject == subject
		})
		reply(w, http.StatusOK, map[string]int{"ended": n})
	})
	return mux
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
