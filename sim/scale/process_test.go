package scale_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cost is what one real agent with a real kernel takes in a cluster of a size.
type cost struct {
	Hosts     int `json:"hosts"`
	Endpoints int `json:"endpoints_per_host"`

	Fill    time.Duration `json:"until_kernel_has_all"` // from the network's creation on this host
	FillCPU time.Duration `json:"until_kernel_has_all_processor"`
	RSS     uint64        `json:"rss_idle"` // bytes
	Peak    uint64        `json:"rss_peak"`
	Idle    float64       `json:"idle_processor"` // share of a core, with the lease renewals of all hosts
	Event   quantiles     `json:"event_in_kernel"`
	// EventCPU is the processor time of one event of ten in a second, EventsCPU the share of a
	// core that ten a second take, with idling.
	EventCPU  time.Duration `json:"event_processor"`
	EventsCPU float64       `json:"ten_events_a_second_processor"`
	JoinIdle  quantiles     `json:"join_idle"`
	JoinBusy  quantiles     `json:"join_busy"` // while ten events a second go on
}

// stageEnv has what the stage is to measure: hosts and endpoints, for how long it averages,
// the agent's binary, and the file for its figures.
const stageEnv = "WEFT_SCALE_STAGE"

// averaged is longer than what the agent does now and then.
const averaged = 35 * time.Second

// agentCost runs a stage: a process in network and mount namespaces of its own, which starts
// the real agent beside itself.
func agentCost(t *testing.T, binary string, hosts, endpoints int) (c cost) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	out := filepath.Join(t.TempDir(), "cost.json")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestStage$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %d %s %s", stageEnv, hosts, endpoints, averaged, binary, out))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	if err != nil {
		t.Fatal("the stage failed: ", err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestStage is not a test: agentCost runs it in a process of its own.
func TestStage(t *testing.T) {
	var c cost
	var window time.Duration
	var binary, out string
	if _, err := fmt.Sscanf(os.Getenv(stageEnv), "%d %d %d %s %s", &c.Hosts, &c.Endpoints, &window, &binary, &out); err != nil {
		t.Skip("a part of make scale, which runs it in namespaces of its own")
	}
	newStage(t, binary, c.Hosts, c.Endpoints, window).measure(&c)
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
