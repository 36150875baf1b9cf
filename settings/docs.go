package settings

import (
	"fmt"
	"strings"
)

// Usage is the line that --help shows behind the flag.
func (s Setting) Usage() string {
	return fmt.Sprintf("%s [%s]", s.Meaning, s.Env)
}

// EnvVar is one entry of "env" in a managed plugin's config.json.
type EnvVar struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Value       string   `json:"value"`
	Settable    []string `json:"settable"` // "value", or nothing
}

// PluginEnv is the env list of the managed plugin's config.json. The host's root
// directory is mounted at root there.
func PluginEnv(root string) []EnvVar {
	var out []EnvVar
	for _, s := range Table() {
		v := EnvVar{Name: s.Env, Description: s.Meaning, Value: s.Default, Settable: []string{"value"}}
		if s.Env == "WEFT_ROOT" {
			v.Value, v.Settable = root, []string{}
		}
		out = append(out, v)
	}
	return out
}

// Markdown is the whole text of docs/settings.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(markdownHead)
	for _, s := range Table() {
		if s.Hidden {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | `--%s` | %s | %s | %s |\n", s.Env, s.Flag(), code(s.Default), s.Meaning, s.Wants)
	}
	b.WriteString(markdownTail)
	return b.String()
}

func code(v string) string {
	if v == "" {
		return "empty"
	}
	return "`" + v + "`"
}

const markdownHead = `<!-- Generated from settings/table.go by "go generate ./settings"; a test fails when it is stale. -->
# Settings

Settings are environment variables. They are the same

- for the managed plugin, while it is disabled: ` + "`docker plugin set weftnet/weft:latest WEFT_JOIN=192.0.2.1`" + `,
- for an agent that runs outside of Docker: its environment,
- as flags of ` + "`weft agent`" + `, which win over the environment.

An unknown ` + "`WEFT_…`" + ` variable, a value that cannot be read and a value that this version does not act on are errors: the agent
names the setting, the value and what it expects, and does not start.

| setting | flag | default | meaning | a value is |
|---|---|---|---|---|
`

const markdownTail = `
` + "`WEFT_PORT`" + ` (tcp and udp) and ` + "`WEFT_VXLAN_PORT`" + ` (udp) must be open between all hosts, and must be two different numbers.
`
