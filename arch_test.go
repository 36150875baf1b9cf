package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weftnet/weft"

// arrows says which packages a package may import. Packages of one level do not import
// each other; what one needs of another it declares as an interface, and plugin
// puts them together. A package that is not here must not exist.
var arrows = map[string][]string{
	".":        {"cli", "cni"},
	"cni":      {"api", "netmap", "netns"},
	"cli":      {"api", "cleanup", "machine", "mesos", "overlays", "plugin", "settings", "turn"},
	"mesos":    {},
	"overlays": {"dockerapi", "follow", "netmap", "turn"},
	"machine":  {"api", "datapath", "datapath/hostnet", "datapath/linux", "dataplane", "dns/resolver", "dockerapi", "ipam", "multicast", "netmap", "netns", "plugin", "presence", "settings", "turn"},
	"plugin": {
		"driver", "attach", "ipam", "store/synced", "gossip", "ledger", "ledger/state", "history", "replicate", "dockerapi", "store", "api", "underlay", "secret", "settings", "discover",
		"datapath/linux", "datapath", "dataplane", "rpc", "netmap", "lease", "turn", "follow", "member", "decide",
		"dns", "dns/containers", "dns/orders", "dns/resolver", "netns", "multicast", "presence", "paths", "consul", "endpoints", "overlays",
	},
	"endpoints":        {"api", "attach", "ipam", "netmap", "netns", "turn"},
	"paths":            {"datapath", "netmap", "turn"},
	"consul":           {"attach", "dockerapi", "follow", "netmap", "turn"},
	"presence":         {"api", "attach", "datapath", "follow", "netmap", "turn"},
	"cleanup":          {"api", "attach", "consul", "datapath/hostnet", "datapath/linux", "dns/takeover", "dockerapi", "member", "netns", "store"},
	"decide":           {"replicate", "gossip", "ledger/state", "ipam", "store/synced", "attach", "dockerapi", "netmap"},
	"member":           {"gossip", "ledger", "ledger/founding", "ledger/state", "ipam", "attach", "dockerapi", "store", "lease", "netmap", "turn", "follow"},
	"driver":           {"attach", "rpc", "netmap"},
	"attach":           {"netmap", "turn"},
	"history":          {"api", "ledger/state", "netmap", "turn"},
	"replicate":        {"attach", "dockerapi", "ledger/state", "netmap", "turn", "follow"},
	"ipam":             {"ipam/pool", "store/synced", "rpc", "netmap", "turn"},
	"ipam/pool":        {"netmap"},
	"store/synced":     {},
	"gossip":           {"netmap", "loglimit", "turn", "follow"},
	"ledger":           {"ledger/founding", "ledger/raftlog", "ledger/state", "netmap", "lease", "turn", "loglimit"},
	"ledger/state":     {"lease", "netmap"},
	"ledger/founding":  {"ledger/state", "netmap", "turn"},
	"ledger/raftlog":   {"ledger/state", "netmap"},
	"lease":            {"netmap", "turn"},
	"underlay":         {"netmap", "loglimit", "secret", "turn"},
	"store":            {"netmap"},
	"dockerapi":        {"netmap", "turn"},
	"api":              {"netmap", "turn"},
	"datapath/hostnet": {"datapath", "netns", "turn"},
	"datapath/linux":   {"datapath", "netns", "netmap", "turn"},
	"netns":            {},
	"multicast":        {"netmap", "netns", "turn"},
	"dns/takeover":     {"netns"},
	"dns/server":       {"dns/takeover", "netns", "turn"},
	"datapath":         {"netmap"},
	"rpc":              {},
	"settings":         {"discover", "secret"}, "discover": {"mesos", "turn"},
	"dns":            {"netmap"},
	"dns/containers": {"dockerapi", "netmap", "turn"},
	"dns/orders":     {"api", "dns", "ledger/state", "netmap"},
	"dns/resolver":   {"attach", "dns", "dns/containers", "dns/sandbox", "dns/server", "follow", "gossip", "netmap", "netns", "turn"},
	"dns/sandbox":    {"dns/server", "dns/takeover", "netmap", "netns", "turn"},
	"follow":         {"netmap"},
	"dataplane":      {"datapath", "netmap", "follow"},
	"netmap":         {},
	"turn":           {}, "loglimit": {}, "secret": {},

	// Fakes beside the seams that they stand in for.
	"underlay/lossy":        {"underlay", "turn"},
	"store/storetest":       {},
	"consul/consultest":     {},
	"ipam/ipamtest":         {"store/synced", "ipam", "netmap"},
	"datapath/datapathtest": {"datapath", "netmap"},
	"plugin/plugintest":     {"datapath/datapathtest", "datapath/linux", "datapath", "dockerapi", "ipam", "presence", "rpc/rpctest", "rpc", "netmap", "turn"},
	"attach/attachtest":     {"attach", "netmap"},
	"rpc/rpctest":           {},

	"dns/takeover/takeovertest": {"netns"},

	// Beside the agent, not part of it.
	"mesos/mesostest": {},
	"packaging":       {"settings"},
	"lab":             {"lab/probe", "api", "netmap", "turn"},
	"lab/labtest":     {"lab"},
	"lab/demo":        {"lab", "api"},
	"lab/bench":       {"lab", "lab/document", "lab/probe"},
	"lab/document":    {},
	"lab/engines":     {},
	"lab/cmd/lab":     {"lab", "lab/demo", "lab/bench", "lab/document", "lab/engines"},
	"lab/cmd/probe":   {"lab/probe"},
	"lab/probe":       {},
	"lab/vm":          {"turn"},
	"kernels":         {},
	"lab/attack":      {"netmap", "turn"},
	"e2e":             {},
	"sim":             {}, // its tests import what they like
	"sim/exact":       {},
	"sim/scale":       {},
}

// outside says which packages speak to which outside library, by module path.
var outside = map[string][]string{
	"github.com/hashicorp/memberlist":  {"gossip"},
	"github.com/hashicorp/go-sockaddr": {"gossip"},
	"github.com/hashicorp/raft":        {"ledger", "ledger/raftlog"},
	"github.com/hashicorp/go-hclog":    {"ledger", "ledger/raftlog"},
	"github.com/vishvananda/netlink":   {"datapath/hostnet", "datapath/linux", "lab", "sim/scale"},
	"github.com/vishvananda/netns":     {"lab", "sim/scale"},
	"go.etcd.io/bbolt":                 {"store", "ledger/raftlog"}, // raft's log: docs/decisions/0003
	"github.com/moby/moby/client":      {"dockerapi"},
	"github.com/moby/moby/api":         {"dockerapi"},
	"github.com/containerd/errdefs":    {"dockerapi"},
	// The messages of one protocol each, and what serves them.
	"github.com/docker/go-plugins-helpers": {"driver", "ipam", "rpc"},
	"github.com/sirupsen/logrus":           {"cli"},
	"github.com/spf13/cobra":               {"cli", "lab/cmd/lab"},
	"github.com/spf13/pflag":               {"cli", "lab/cmd/lab"},
	"golang.org/x/net":                     {"api"},
	"golang.org/x/crypto":                  {"secret"},
	"github.com/google/nftables":           {"datapath/hostnet", "datapath/linux", "dns/takeover"},
	"github.com/miekg/dns":                 {"dns", "dns/resolver", "dns/sandbox", "dns/server", "dns/orders", "discover", "e2e", "lab/probe", "dns/takeover/takeovertest"}, // all but the first five: servers and clients of the tests
	"github.com/containernetworking/cni":   {"cni", "e2e"},
	// Marathon's schemas, in the tests of the examples.
	"github.com/santhosh-tekuri/jsonschema": {"mesos/mesostest"},
	// The kernel: locks, credentials of sockets, namespaces, clocks.
	"golang.org/x/sys": {"datapath/hostnet", "datapath/linux", "netns", "store", "rpc", "member", "underlay", "lab", "lab/probe", "lab/bench", "lab/cmd/lab", "sim/scale", "dns/takeover", "dns/takeover/takeovertest", "dns/server"},
}

// inTests may be imported by any test.
var inTests = []string{"github.com/google/go-cmp", "pgregory.net/rapid"}

// pure packages and files compute values and touch nothing; a pattern is of
// path.Match.
var pure = []string{
	"netmap/*.go", "datapath/*.go", "store/synced/*.go", "ipam/pool/*.go", "ledger/state/*.go", "ledger/founding/plan.go", "dns/*.go", "consul/service.go", "consul/plan.go", "overlays/config.go", "overlays/state.go",
}

// impure is what they do without: the network, the disk, the clock, the log,
// chance, and goroutines' tools.
var (
	impureImports = []string{"net", "net/http", "os", "os/exec", "syscall", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand", "context", "sync"}
	impureCalls   = []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick", "time.Sleep"}
	// exceptions names a file, what it may use all the same, and why.
	exceptions = map[string]string{
		"netmap/mac.go net":  "net.HardwareAddr and net.ParseMAC are values",
		"netmap/map.go sync": "a Map is shared; its answers are immutable views",
		"dns/names.go sync":  "Names is read while it changes",
	}
	// sleepers wait for what tells nobody when it happens. Tests in synctest
	// bubbles may sleep too: virtual time.
	sleepers = map[string]string{
		"store/lock.go": "the kernel has no event for a released flock",
		"lab/":          "waits for other programs",

		// The bubble of these is begun by a helper in another file of the package.
		"ledger/keepers_sim_test.go":  "virtual time",
		"ledger/sim_test.go":          "virtual time",
		"ipam/churn_test.go":          "virtual time",
		"ledger/stranger_test.go":     "virtual time",
		"ledger/truncation_test.go":   "virtual time",
		"plugin/clone_test.go":        "virtual time",
		"plugin/decide_test.go":       "virtual time",
		"plugin/endpoints_test.go":    "virtual time",
		"plugin/founding_test.go":     "virtual time",
		"plugin/forged_test.go":       "virtual time",
		"plugin/gateway_test.go":      "virtual time",
		"plugin/history_test.go":      "virtual time",
		"plugin/ipv6_test.go":         "virtual time",
		"plugin/leak_test.go":         "virtual time",
		"plugin/leave_test.go":        "virtual time",
		"plugin/membership_test.go":   "virtual time",
		"plugin/recover_test.go":      "virtual time",
		"plugin/replicate_test.go":    "virtual time",
		"plugin/recover_lent_test.go": "virtual time",
		"plugin/recover_slow_test.go": "virtual time",
		"plugin/majority_test.go":     "virtual time",
		"plugin/return_test.go":       "virtual time",
		"plugin/reuse_test.go":        "virtual time",
		"plugin/swarm_test.go":        "virtual time",
		"sim/":                        "virtual time",
	}
)

// source is one Go file.
type source struct {
	pkg  string // directory, "." for the root
	file string // path from the root
	test bool
	set  *token.FileSet
	ast  *ast.File
	text string
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	each(t, func(file string) {
		if !strings.HasSuffix(file, ".go") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := source{pkg: path.Dir(file), file: file, test: strings.HasSuffix(file, "_test.go"), set: token.NewFileSet(), text: string(text)}
		if s.ast, err = parser.ParseFile(s.set, file, text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	})
	return out
}

// each walks the files of the repository, not what was built or is hidden.
func each(t *testing.T, visit func(file string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir():
			visit(filepath.ToSlash(name))
		case name == "build" || name == "lab-state" || name == ".git" || entry.Name() == "testdata":
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s source) imports() []string {
	var out []string
	for _, i := range s.ast.Imports {
		if name, err := strconv.Unquote(i.Path.Value); err == nil {
			out = append(out, name)
		}
	}
	return out
}

func TestArrowsGoDown(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := arrows[s.pkg]
		if !known {
			t.Errorf("%s: there is no package %s in the table of arrows", s.file, s.pkg)
			continue
		}
		for _, name := range s.imports() {
			to, ours := strings.CutPrefix(name, module+"/")
			if ours && !s.test && !slices.Contains(allowed, to) {
				t.Errorf("%s: an arrow from %s to %s is not in the table", s.file, s.pkg, to)
			}
		}
	}
}

// TestTheTableHasNoCycle: "down" means something.
func TestTheTableHasNoCycle(t *testing.T) {
	done := map[string]bool{}
	var visit func(pkg string, above []string)
	visit = func(pkg string, above []string) {
		if slices.Contains(above, pkg) {
			t.Fatalf("arrows in a circle: %s", strings.Join(append(above, pkg), " → "))
		}
		if done[pkg] {
			return
		}
		for _, to := range arrows[pkg] {
			if _, ok := arrows[to]; !ok {
				t.Errorf("%s may import %s, which is no package", pkg, to)
			}
			visit(to, append(slices.Clone(above), pkg))
		}
		done[pkg] = true
	}
	for pkg := range arrows {
		visit(pkg, nil)
	}
}

func TestOutsideThingsAreSpokenToInOnePackage(t *testing.T) {
	for _, s := range sources(t) {
		for _, name := range s.imports() {
			first, _, _ := strings.Cut(name, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(name, module) {
				continue
			}
			within := func(library string) bool { return name == library || strings.HasPrefix(name, library+"/") }
			if slices.ContainsFunc(inTests, within) {
				if !s.test {
					t.Errorf("%s: %s is for tests", s.file, name)
				}
				continue
			}
			allowed := false
			for library, pkgs := range outside {
				allowed = allowed || within(library) && slices.Contains(pkgs, s.pkg)
			}
			if !allowed {
				t.Errorf("%s: %s does not speak to %s", s.file, s.pkg, name)
			}
		}
	}
}

func isPure(s source) bool {
	return !s.test && slices.ContainsFunc(pure, func(pattern string) bool {
		ok, _ := path.Match(pattern, s.file)
		return ok
	})
}

func TestPurePackagesTouchNothing(t *testing.T) {
	for _, s := range sources(t) {
		if !isPure(s) {
			continue
		}
		for _, name := range s.imports() {
			if slices.Contains(impureImports, name) && exceptions[s.file+" "+name] == "" {
				t.Errorf("%s is pure and imports %s", s.file, name)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: pure, and starts a goroutine", s.set.Position(n.Pos()))
			}
			if call := selector(n); slices.Contains(impureCalls, call) {
				t.Errorf("%s: pure, and calls %s", s.set.Position(n.Pos()), call)
			}
			return true
		})
	}
}

// selector is "package.Name" where n is that.
func selector(n ast.Node) string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

func TestNobodySleeps(t *testing.T) {
	for _, s := range sources(t) {
		excused := s.test && slices.Contains(s.imports(), "testing/synctest")
		for file := range sleepers {
			excused = excused || strings.HasPrefix(s.file, file)
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if selector(n) == "time.Sleep" && !excused {
				t.Errorf("%s: wait for the event, with a deadline, or in a synctest bubble", s.set.Position(n.Pos()))
			}
			return true
		})
	}
}

func TestPackagesHaveNamesAndDocs(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		documented[s.pkg] = documented[s.pkg] || !s.test && s.ast.Doc != nil
		for word := range strings.SplitSeq(s.pkg, "/") {
			if slices.Contains([]string{"util", "utils", "common", "helper", "helpers", "types", "pkg", "internal"}, word) {
				t.Errorf("%s: %q says nothing about what is in it", s.file, word)
			}
		}
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", pkg)
		}
	}
}
