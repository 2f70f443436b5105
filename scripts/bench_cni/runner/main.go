// The runner starts programs as a container runtime starts its CNI plugins, in turn, and says for each run how long it took
// and what the kernel counted (wait4). It is written in Go because the peak memory that the kernel reports for a child is at
// least that of the process it was started from: a JavaScript runtime's own would hide the child's.
//
// Standard input: {"runs": N, "warmups": N, "subjects": [{"name", "command", "env", "stdin"}]}.
// Standard output: {"NAME": [{"ms", "cpuMs", "rssKib"}]}.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

type subject struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Stdin   string   `json:"stdin"`
}

type sample struct {
	Ms     float64 `json:"ms"`
	CPUMs  float64 `json:"cpuMs"`
	RssKib int64   `json:"rssKib"`
}

func main() {
	var spec struct {
		Runs     int       `json:"runs"`
		Warmups  int       `json:"warmups"`
		Subjects []subject `json:"subjects"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		fail("cannot read what to run: %v", err)
	}
	samples := map[string][]sample{}
	for i := -spec.Warmups; i < spec.Runs; i++ {
		for _, s := range spec.Subjects {
			taken := run(s)
			if i >= 0 {
				samples[s.Name] = append(samples[s.Name], taken)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(samples); err != nil {
		fail("cannot write the samples: %v", err)
	}
}

// Every run must succeed and print JSON: a plugin that fails fast is no fast plugin.
func run(s subject) sample {
	var stdout, stderr strings.Builder
	command := exec.Command(s.Command[0], s.Command[1:]...)
	command.Env = s.Env
	command.Stdin = strings.NewReader(s.Stdin)
	command.Stdout = &stdout
	command.Stderr = &stderr
	start := time.Now()
	err := command.Run()
	took := time.Since(start)
	if err != nil || (stdout.Len() > 0 && !json.Valid([]byte(stdout.String()))) {
		fail("%s: %v; stdout %q, stderr %q", s.Name, err, stdout.String(), stderr.String())
	}
	state := command.ProcessState
	return sample{
		Ms:     took.Seconds() * 1000,
		CPUMs:  (state.UserTime() + state.SystemTime()).Seconds() * 1000,
		RssKib: state.SysUsage().(*syscall.Rusage).Maxrss,
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
