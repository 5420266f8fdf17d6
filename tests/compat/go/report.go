package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	stepDeadline = 45 * time.Second
	bound        = 20 * time.Second
)

// notSupported says that the client has no such function.
type notSupported string

func (reason notSupported) Error() string { return string(reason) }

// step runs one step and prints one JSON line; a step that hangs ends the program.
func step(name string, run func() (string, error)) {
	watchdog := time.AfterFunc(stepDeadline, func() {
		line(name, false, fmt.Sprintf("no end within %s", stepDeadline))
		os.Exit(3)
	})
	detail, err := run()
	watchdog.Stop()
	var missing notSupported
	switch {
	case err == nil:
		line(name, true, detail)
	case errors.As(err, &missing):
		line(name, nil, err.Error())
	default:
		line(name, false, fmt.Sprintf("%T: %v", err, err))
	}
}

func line(name string, ok any, detail string) {
	text, err := json.Marshal(map[string]any{"step": name, "ok": ok, "detail": detail})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// plain is a step without a detail.
func plain(run func() error) func() (string, error) {
	return func() (string, error) { return "", run() }
}

func same[T comparable](what string, expected, found T) error {
	if expected != found {
		return fmt.Errorf("%s is %v, expected %v", what, found, expected)
	}
	return nil
}

// until repeats done until it is true; state says after the bound what there is instead.
func until(done func() (bool, error), state func() string) error {
	end := time.Now().Add(bound)
	for {
		finished, err := done()
		if err != nil || finished {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s: %s", bound, state())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
