package attack

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/weftnet/weft/netmap"
)

// Raft are the attacks in the name of a keeper.
func Raft() []Attack {
	return []Attack{
		{"raft: the highest term there is", func(ctx context.Context, t Target) error {
			return t.raft(ctx, rpcVote, fields{"Term": uint64(math.MaxUint64), "LastLogIndex": uint64(math.MaxInt64), "LastLogTerm": uint64(math.MaxInt64), "LeadershipTransfer": true})
		}},
		{"raft: an entry that nobody can read", func(ctx context.Context, t Target) error {
			entry := fields{"Index": uint64(1), "Term": uint64(1 << 40), "Type": uint64(0), "Data": []byte("\xff\xffnot a command")}
			return t.raft(ctx, rpcAppend, fields{"Term": uint64(1 << 40), "Leader": []byte("x"), "Entries": []fields{entry}, "LeaderCommitIndex": uint64(1)})
		}},
		{"raft: a snapshot of 2^50 bytes with a configuration that nobody can read", func(ctx context.Context, t Target) error {
			return t.raft(ctx, rpcSnapshot, fields{
				"SnapshotVersion": uint64(1), "Term": uint64(1 << 41), "LastLogIndex": uint64(1 << 40), "LastLogTerm": uint64(1),
				"Configuration": []byte("\xff\xff"), "ConfigurationIndex": uint64(1), "Size": uint64(1 << 50),
			})
		}},
	}
}

// Facts returns the attacks that forge decisions of the ledger.
func Facts() []Attack {
	return []Attack{
		{"facts: every host was removed", func(ctx context.Context, t Target) error {
			b, err := t.decided(1, append([]netmap.HostID{t.Host}, t.Others...)...)
			return errors.Join(err, t.forge(ctx, b))
		}},
		{"facts: generations of 2^63-1 and 2^64-1", func(ctx context.Context, t Target) error {
			far, err := t.decided(math.MaxInt64)
			last, err2 := t.decided(math.MaxUint64)
			return errors.Join(err, err2, t.forge(ctx, far, last))
		}},
		{"facts: every host has started again, and later", func(ctx context.Context, t Target) error {
			var all []netmap.Batch
			for _, id := range append([]netmap.HostID{t.Host}, t.Others...) {
				all = append(all, netmap.Batch{Origin: id, Life: netmap.MaxCounter, Seq: 1, Whole: true})
			}
			return t.forge(ctx, all...)
		}},
	}
}

// forge sends batches of facts, a datagram each.
func (t Target) forge(ctx context.Context, batches ...netmap.Batch) error {
	var all [][]byte
	for _, b := range batches {
		all = append(all, t.packet('b', netmap.AppendBatch(nil, b)...))
	}
	return t.datagrams(ctx, all)
}

// decided says in the ledger's name that hosts were removed.
func (t Target) decided(generation uint64, removed ...netmap.HostID) (netmap.Batch, error) {
	const seq = 1 << 40
	var changes []netmap.Change
	for i, id := range removed {
		changes = append(changes, netmap.Change{Key: netmap.HostEntryKey(id), Value: netmap.HostEntry{ID: id, Index: uint32(i + 1), Removed: true}})
	}
	records, err := netmap.RecordsOf(seq, changes)
	return netmap.Batch{Origin: t.Cluster, Life: generation, Seq: seq, Whole: true, Records: records}, err
}

// greeting is how a stream of raft's begins.
func (t Target) greeting(from netmap.HostID) []byte {
	b := append([]byte{2}, t.Cluster[:]...)
	b = append(append(b, t.Host[:]...), from[:]...)
	b = binary.BigEndian.AppendUint64(b, 1)
	b = binary.BigEndian.AppendUint64(b, 1)
	return append(b, 0, 0) // no earlier starts
}

// raft's requests.
const (
	rpcAppend   byte = 0
	rpcVote     byte = 1
	rpcSnapshot byte = 2
)

// raft sends one request as an unknown host, and as each of the others.
func (t Target) raft(ctx context.Context, kind byte, request fields) error {
	request["ProtocolVersion"] = uint64(3)
	request["ID"], request["Addr"] = []byte("x"), []byte("x")
	for _, from := range append([]netmap.HostID{{0xee, 2}}, t.Others...) {
		if err := t.once(ctx, preface('l'), t.greeting(from), append([]byte{kind}, encode(nil, request)...)); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// once opens a stream, says something and waits a moment for an answer.
func (t Target) once(ctx context.Context, say ...[]byte) error {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	return t.streams(ctx, 1, say...)
}
