package gossip

import (
	"bytes"
	"log/slog"
	"sync"
	"time"
)

// quiet is how long a repeated complaint is held back.
const quiet = time.Minute

// maxTopics bounds the complaints that are remembered.
const maxTopics = 256

// noise logs what others may cause any number of times: each topic once, then at
// most every minute with the count of what was held back.
type noise struct {
	log *slog.Logger

	mu     sync.Mutex
	topics map[string]*topic
}

type topic struct {
	last time.Time
	held int
}

// warn logs under a topic; what tells topics apart should be a cause and a peer.
func (n *noise) warn(about, msg string, args ...any) {
	if held, now := n.due(about); now {
		if held > 0 {
			args = append(args, "repeated", held)
		}
		n.log.Warn(msg, args...)
	}
}

func (n *noise) due(about string) (held int, now bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.topics == nil || len(n.topics) >= maxTopics {
		n.topics = map[string]*topic{}
	}
	t := n.topics[about]
	if t == nil {
		t = &topic{}
		n.topics[about] = t
	}
	if time.Since(t.last) < quiet {
		t.held++
		return 0, false
	}
	held = t.held
	t.last, t.held = time.Now(), 0
	return held, true
}

// memberlistLog is an io.Writer for memberlist's own log: errors are worth a
// warning now and then, the rest is for debugging.
type memberlistLog struct{ noise *noise }

// Write implements io.Writer.
func (l memberlistLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if bytes.Contains(line, []byte("[ERR]")) {
		l.noise.warn("memberlist", "memberlist complains", "err", text)
	} else {
		l.noise.log.Debug("memberlist", "says", text)
	}
	return len(line), nil
}
