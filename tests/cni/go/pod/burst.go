// burst runs a CNI plugin for many pods, a given number at once, as a container runtime does when a node fills up. Standard input: a
// burstSpec as JSON; standard output: one burstResult for each call, in order.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

type burstSpec struct {
	Plugin string   `json:"plugin"`
	Width  int      `json:"width"`
	Env    []string `json:"env"`
	Calls  []struct {
		Env   []string `json:"env"`
		Stdin string   `json:"stdin"`
	} `json:"calls"`
}

type burstResult struct {
	// Milliseconds from the start of the burst.
	StartMs float64 `json:"startMs"`
	EndMs   float64 `json:"endMs"`
	// What the plugin said instead of a result.
	Error string `json:"error,omitempty"`
}

func burst() {
	var spec burstSpec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		log.Fatal(err)
	}
	results := make([]burstResult, len(spec.Calls))
	work := make(chan int)
	var group sync.WaitGroup
	began := time.Now()
	since := func() float64 { return float64(time.Since(began).Microseconds()) / 1000 }
	for range spec.Width {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := range work {
				call := spec.Calls[at]
				var output bytes.Buffer
				command := exec.Command(spec.Plugin)
				command.Env = append(append([]string{}, spec.Env...), call.Env...)
				command.Stdin = strings.NewReader(call.Stdin)
				command.Stdout = &output
				results[at].StartMs = since()
				err := command.Run()
				results[at].EndMs = since()
				if err != nil {
					results[at].Error = err.Error() + ": " + output.String()
				}
			}
		}()
	}
	for at := range spec.Calls {
		work <- at
	}
	close(work)
	group.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		log.Fatal(err)
	}
}
