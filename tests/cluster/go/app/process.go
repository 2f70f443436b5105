package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Ends of processes that nobody else waits for come here, those of a first process by its own and by others' children.
func reap(taken func(pid int, status syscall.WaitStatus)) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		taken(pid, status)
	}
}

func initProcess(command []string) error {
	if len(command) == 0 {
		return errors.New("init: which command?")
	}
	died := make(chan os.Signal, 64)
	signal.Notify(died, syscall.SIGCHLD)
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	child, err := os.StartProcess(path, command, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	// Whoever started this holds the other end, and is gone when it closes: by whatever death.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	for range died {
		reap(func(pid int, status syscall.WaitStatus) {
			if pid != child.Pid {
				return
			}
			if status.Signaled() {
				os.Exit(128 + int(status.Signal()))
			}
			os.Exit(status.ExitStatus())
		})
	}
	return nil
}

func pause(_ []string) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return nil
		}
		reap(func(int, syscall.WaitStatus) {})
	}
	return nil
}
