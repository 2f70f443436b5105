// The one program of the cluster's pods that is the project's own, static, so that an image needs nothing else. It is also the
// node's first process.
//
//	app init COMMAND...      first process of a pid namespace: runs COMMAND, takes all the dead, ends with COMMAND or with its standard input
//	app pause                sandbox of a pod: does nothing until it is told to stop
//	app serve [-port=8080]   HTTP: says who answered and who asked; /probe is counted, and /probes says how often
//	app get [-timeout=5s] [-n=1] [-i] URL
//	                         prints the body, -i: the head too, -n: of so many requests; exit code 0 for statuses below 400 only
//	app load [-interval=20ms] [-timeout=5s] [-keep] URL
//	                         asks again and again until standard input ends, then prints what happened as JSON; -keep: on one
//	                         connection, of which a break is final unless it was announced
package main

import (
	"fmt"
	"os"
)

func main() {
	modes := map[string]func([]string) error{
		"init":  initProcess,
		"pause": pause,
		"serve": serve,
		"get":   get,
		"load":  load,
	}
	if len(os.Args) < 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "app: init, pause, serve, get or load?")
		os.Exit(2)
	}
	if err := modes[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}
