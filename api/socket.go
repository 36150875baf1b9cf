package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/netmap"
)

// SocketPath is where the agent listens, below a host's root directory.
const SocketPath = "/run/weft/agent.sock"

// slowest is the time limit of the longest order.
const slowest = time.Minute

// maxRequest bounds what the agent reads, bytes.
const maxRequest = 4 << 10

// Agent is what answers on the socket. Its methods may be called concurrently.
type Agent interface {
	Reporter
	// Orders return a sentence for the operator.
	RemoveHost(ctx context.Context, r Removal) (string, error)
	Connect(ctx context.Context, p PeerChange) (string, error)
	Forget(ctx context.Context, p PeerChange) (string, error)
	NewIdentity(ctx context.Context, r IdentityReset) (string, error)
	AddRange(ctx context.Context, r Range) (string, error)
	RemoveNetwork(ctx context.Context, r NetworkRemoval) (string, error)
	Leave(ctx context.Context, d Departure) (string, error)
	RecoverLedger(ctx context.Context, r Recovery) (string, error)
	DetachEndpoint(ctx context.Context, r DetachRequest) (string, error)
	AddName(ctx context.Context, r StaticName) (string, error)
	RemoveName(ctx context.Context, r StaticName) (string, error)

	History(ctx context.Context, q HistoryQuery) (*History, error)
	AttachEndpoint(ctx context.Context, r AttachRequest) (*Attachment, error)
	ListNames(ctx context.Context, q NameQuery) ([]Name, error)
	LookupName(ctx context.Context, q NameQuery) ([]NameAnswer, error)
}

// orders are the requests that change something or search, by method and path.
var orders = map[string]func(Agent) http.HandlerFunc{
	"POST /hosts/remove":      order(Agent.RemoveHost),
	"POST /peers/connect":     order(Agent.Connect),
	"POST /peers/forget":      order(Agent.Forget),
	"POST /host/new-identity": order(Agent.NewIdentity),
	"POST /ranges/add":        order(Agent.AddRange),
	"POST /networks/remove":   order(Agent.RemoveNetwork),
	"POST /host/leave":        order(Agent.Leave),
	"POST /ledger/recover":    order(Agent.RecoverLedger),
	"POST /ledger/log":        answer(Agent.History),
	"POST /endpoints/attach":  answer(Agent.AttachEndpoint),
	"POST /endpoints/detach":  order(Agent.DetachEndpoint),
	"POST /dns/list":          answer(Agent.ListNames),
	"POST /dns/lookup":        answer(Agent.LookupName),
	"POST /dns/add":           order(Agent.AddName),
	"POST /dns/remove":        order(Agent.RemoveName),
}

// Handler answers GET /status, GET /health and operators' orders. The report is made
// anew for each request.
func Handler(a Agent) http.Handler {
	mux := readOnly(a)
	for pattern, handler := range orders {
		mux.HandleFunc(pattern, handler(a))
	}
	return mux
}

// Serve answers GET /status, GET /health and operators' orders on a unix socket of mode 0600
// until ctx ends. It replaces a socket that an earlier agent left behind.
func Serve(ctx context.Context, path string, a Agent) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("api: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close() // the error of chmod is returned
		return fmt.Errorf("api: %w", err)
	}
	srv := &http.Server{Handler: Handler(a), ReadTimeout: 5 * time.Second, WriteTimeout: slowest}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end(srv)
	})
	err = srv.Serve(ln)
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("api: %w", err)
	}
	return nil
}

// end closes the server after a pause, so that the answer to an order that ends the agent is
// still sent.
func end(srv *http.Server) {
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		_ = srv.Close() // what is unanswered by now stays so
	}
}

// answer serves one kind of request.
func answer[Q, A any](carryOut func(Agent, context.Context, Q) (A, error)) func(Agent) http.HandlerFunc {
	return func(agent Agent) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			var q Q
			var out any
			if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxRequest)).Decode(&q); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				out = failed(netmap.Refuse(netmap.BadInput, "the request cannot be read: %v", err))
			} else if a, err := carryOut(agent, req.Context(), q); err != nil {
				w.WriteHeader(http.StatusConflict)
				out = failed(err)
			} else {
				out = a
			}
			_ = json.NewEncoder(w).Encode(out) // the client has gone: nothing to do
		}
	}
}

// order answers a request with a sentence for the operator.
func order[Q any](carryOut func(Agent, context.Context, Q) (string, error)) func(Agent) http.HandlerFunc {
	return answer(func(a Agent, ctx context.Context, q Q) (sentence, error) {
		text, err := carryOut(a, ctx, q)
		return sentence{text}, err
	})
}
