package settings

import (
	"strings"
	"testing"
)

func TestConsul(t *testing.T) {
	for v, want := range map[string]string{
		"": "", "http://127.0.0.1:8500": "http://127.0.0.1:8500", "https://consul.example:8501/": "https://consul.example:8501", "http://[::1]:8500": "http://[::1]:8500",
	} {
		var s Settings
		if err := parseConsul(&s, v); err != nil || s.Consul != want {
			t.Errorf("%q is %q, %v", v, s.Consul, err)
		}
	}
	for _, v := range []string{"127.0.0.1:8500", "http://127.0.0.1", "http://:8500", "http://127.0.0.1:0", "http://127.0.0.1:99999", "ftp://127.0.0.1:21", "http://127.0.0.1:8500/v1", "http://127.0.0.1:8500?token=x", "http://a b:1", "unix:///run/consul.sock"} {
		if _, err := Load(Source{Environ: []string{"WEFT_CONSUL=" + v}}); err == nil || !strings.Contains(err.Error(), "want "+wantsConsul) {
			t.Errorf("%q: %v", v, err)
		}
	}
	if err := parseConsul(&Settings{}, "http://u:p@127.0.0.1:8500"); err == nil || !strings.Contains(err.Error(), "consul/token") {
		t.Errorf("with a password: %v", err)
	}
}
