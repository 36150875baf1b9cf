package underlay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/netmap"
)

// MaxBody is the largest body of a request or an answer, in bytes.
const MaxBody = 16 << 20

// maxName is the longest name of a request, in bytes.
const maxName = 64

// Frames are a 32-bit big-endian length and that many bytes. A request is
//
//	milliseconds until the caller gives up (4), length of the name (1), name, body
//
// and an answer is a verdict (1) and the body.
const requestHead = 5

type verdict byte

const (
	verdictOK      verdict = 0 // the body is the answer
	verdictRefusal verdict = 1 // the body is a netmap.Refusal in JSON
	verdictError   verdict = 2 // the body is the text of an error
)

// errFrame is wrapped by every decoder of this file.
var errFrame = errors.New("not a frame of this protocol")

type question struct {
	patience time.Duration // how long the caller waits, whole milliseconds
	name     string
	body     []byte
}

type answer struct {
	verdict verdict
	body    []byte
}

func (q question) encode() ([]byte, error) {
	if len(q.name) == 0 || len(q.name) > maxName {
		return nil, fmt.Errorf("request name %q: want 1 to %d bytes", q.name, maxName)
	}
	if len(q.body) > MaxBody {
		return nil, fmt.Errorf("request %s: a body of %d bytes is over the limit of %d", q.name, len(q.body), MaxBody)
	}
	ms := min(max(q.patience.Milliseconds(), 0), 1<<32-1)
	out := make([]byte, 0, 4+requestHead+len(q.name)+len(q.body))
	out = binary.BigEndian.AppendUint32(out, uint32(requestHead+len(q.name)+len(q.body)))
	out = binary.BigEndian.AppendUint32(out, uint32(ms))
	out = append(out, byte(len(q.name)))
	out = append(out, q.name...)
	return append(out, q.body...), nil
}

func decodeQuestion(b []byte) (question, error) {
	if len(b) < requestHead {
		return question{}, fmt.Errorf("request of %d bytes: %w", len(b), errFrame)
	}
	n := int(b[4])
	if n == 0 || n > maxName || len(b) < requestHead+n {
		return question{}, fmt.Errorf("request with a name of %d bytes: %w", n, errFrame)
	}
	return question{
		patience: time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond,
		name:     string(b[requestHead : requestHead+n]),
		body:     b[requestHead+n:],
	}, nil
}

// answerOf turns what a handler returned into what travels.
func answerOf(body []byte, err error) answer {
	var refusal *netmap.Refusal
	switch {
	case errors.As(err, &refusal):
		b, jsonErr := json.Marshal(refusal)
		if jsonErr != nil {
			return answer{verdictError, []byte(err.Error())}
		}
		return answer{verdictRefusal, b}
	case err != nil:
		return answer{verdictError, []byte(err.Error())}
	case len(body) > MaxBody:
		return answer{verdictError, fmt.Appendf(nil, "the answer of %d bytes is over the limit of %d", len(body), MaxBody)}
	}
	return answer{verdictOK, body}
}

func (a answer) encode() []byte {
	out := make([]byte, 0, 5+len(a.body))
	out = binary.BigEndian.AppendUint32(out, uint32(1+len(a.body)))
	return append(append(out, byte(a.verdict)), a.body...)
}

func decodeAnswer(b []byte) (answer, error) {
	if len(b) < 1 || verdict(b[0]) > verdictError {
		return answer{}, fmt.Errorf("answer of %d bytes: %w", len(b), errFrame)
	}
	return answer{verdict(b[0]), b[1:]}, nil
}

// result is what the caller gets for an answer.
func (a answer) result() ([]byte, error) {
	switch a.verdict {
	case verdictOK:
		return a.body, nil
	case verdictRefusal:
		refusal := new(netmap.Refusal)
		if err := json.Unmarshal(a.body, refusal); err != nil || refusal.Kind == "" {
			return nil, fmt.Errorf("refusal %q: %w", truncate(a.body), errFrame)
		}
		return nil, refusal
	default:
		return nil, &RemoteError{Text: truncate(a.body)}
	}
}

// truncate bounds a text from outside that goes into an error.
func truncate(b []byte) string {
	const limit = 1024
	if len(b) > limit {
		b = b[:limit]
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// readFrame reads one frame of at most limit bytes. It allocates smallFrame at most until
// so much has arrived and reserve grants the whole length.
func readFrame(r io.Reader, limit int, reserve func(n int) error) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("frame of %d bytes, limit %d: %w", n, limit, errFrame)
	}
	b := make([]byte, min(n, smallFrame))
	_, err := io.ReadFull(r, b)
	if err == nil && n > smallFrame {
		if err := reserve(int(n)); err != nil {
			return nil, err
		}
		b = append(make([]byte, 0, n), b...)[:n]
		_, err = io.ReadFull(r, b[smallFrame:])
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
