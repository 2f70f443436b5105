import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { TICK_MS, Timer, TimerWheel } from "../../src/net/timer_wheel.ts";

/** One turn of the wheel. */
const TURN_MS = 256 * TICK_MS;

function note(fired: number[]): Timer {
  return new Timer({ expired: (nowMs) => fired.push(nowMs) });
}

describe("timer_wheel", () => {
  test("timer_wheel: fires in the tick after the deadline, once", () => {
    const wheel = new TimerWheel(0);
    const fired: number[] = [];
    wheel.set(note(fired), 0, 120);
    for (let now = 0; now < 1_000; now += 10) wheel.advance(now);
    assert.deepEqual(fired, [150]);
    assert.equal(wheel.size, 0);
  });

  test("timer_wheel: never early and at most one tick late, whatever the delays and the steps of time", () => {
    const timer = fc.record({ setAt: fc.integer({ min: 0, max: 20_000 }), delay: fc.integer({ min: 0, max: 40_000 }) });
    fc.assert(
      fc.property(
        fc.array(timer, { minLength: 1, maxLength: 40 }),
        fc.array(fc.integer({ min: 1, max: 3 * TICK_MS }), { minLength: 1, maxLength: 10 }),
        fc.nat(1_000_000),
        (timers, steps, start) => {
          const wheel = new TimerWheel(start);
          const pending = timers.map(({ setAt, delay }) => ({ setAt: start + setAt, delay })).sort((a, b) =>
            a.setAt - b.setAt
          );
          let fired = 0;
          for (let now = start, i = 0; now < start + 70_000; now += steps[i++ % steps.length]) {
            while (pending.length > 0 && pending[0].setAt <= now) {
              const { delay } = pending.shift() as { delay: number };
              const deadline = now + delay;
              let done = false;
              wheel.set(
                new Timer({
                  expired: (at) => {
                    assert.equal(done, false, "fired twice");
                    done = true;
                    assert.ok(at >= deadline, `${at} is before ${deadline}`);
                    const step = Math.max(...steps);
                    assert.ok(at <= deadline + TICK_MS + step, `${at} is late for ${deadline}`);
                    fired++;
                  },
                }),
                now,
                delay,
              );
            }
            wheel.advance(now);
          }
          assert.equal(fired, timers.length);
          assert.equal(wheel.size, 0);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("timer_wheel: a sleep of the length it names never misses a deadline and never spins", () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 60_000 }), { minLength: 1, maxLength: 20 }), (delays) => {
      const wheel = new TimerWheel(7);
      let left = delays.length;
      for (const delay of delays) {
        const timer = new Timer({
          expired: (now) => {
            left--;
            assert.ok(now >= 7 + delay && now <= 7 + delay + TICK_MS, `${now} for ${7 + delay}`);
          },
        });
        wheel.set(timer, 7, delay);
      }
      let wakes = 0;
      for (let now = 7; left > 0;) {
        const sleep = wheel.sleepMs(now);
        assert.ok(sleep > 0, `sleeps ${sleep} with ${left} timers left`);
        now += sleep;
        wheel.advance(now);
        assert.ok(++wakes < 500);
      }
      assert.equal(wheel.sleepMs(100_000), -1);
      // Beside the wake that fires it, a timer costs one per turn of the wheel.
      assert.ok(wakes <= delays.length * (2 + 60_000 / TURN_MS));
    }));
  });

  test("timer_wheel: a jump of the clock over many turns fires everything due and nothing else", () => {
    const wheel = new TimerWheel(0);
    const early: number[] = [];
    const late: number[] = [];
    for (let i = 0; i < 300; i++) wheel.set(note(early), 0, i * 100);
    wheel.set(note(late), 0, 2_000_000);
    wheel.advance(1_000_000);
    assert.equal(early.length, 300);
    assert.equal(late.length, 0);
    wheel.advance(2_000_050);
    assert.equal(late.length, 1);
  });

  test("timer_wheel: a timer beyond one turn waits for its own", () => {
    const wheel = new TimerWheel(0);
    const fired: number[] = [];
    wheel.set(note(fired), 0, 3 * TURN_MS + 75);
    for (let now = 0; now < 3 * TURN_MS + 75; now += TICK_MS) wheel.advance(now);
    assert.deepEqual(fired, []);
    assert.equal(wheel.size, 1);
    wheel.advance(3 * TURN_MS + 100);
    assert.deepEqual(fired, [3 * TURN_MS + 100]);
  });

  test("timer_wheel: a cancelled timer never fires, an idle one may be cancelled", () => {
    const wheel = new TimerWheel(0);
    const fired: number[] = [];
    const timers = Array.from({ length: 5 }, () => note(fired));
    for (const timer of timers) wheel.set(timer, 0, 100);
    for (const i of [0, 2, 4]) wheel.cancel(timers[i]); // Both ends of the list, and its middle.
    wheel.cancel(timers[2]);
    assert.equal(wheel.size, 2);
    wheel.advance(200);
    assert.equal(fired.length, 2);
    wheel.cancel(timers[1]);
    assert.equal(wheel.size, 0);
  });

  test("timer_wheel: setting again moves the timer", () => {
    const wheel = new TimerWheel(0);
    const fired: number[] = [];
    const timer = note(fired);
    wheel.set(timer, 0, 100);
    wheel.set(timer, 50, 500);
    assert.equal(wheel.size, 1);
    wheel.advance(500);
    assert.deepEqual(fired, []);
    wheel.advance(550);
    assert.deepEqual(fired, [550]);
  });

  test("timer_wheel: one that sets itself again within expired fires again, and does not fire for ever in one call", () => {
    const wheel = new TimerWheel(0);
    let count = 0;
    const timer: Timer = new Timer({
      expired: (now) => {
        assert.ok(++count < 1_000, "one advance does not end");
        wheel.set(timer, now, 0);
      },
    });
    wheel.set(timer, 0, 0);
    wheel.advance(50);
    assert.equal(count, 1);
    wheel.advance(100);
    assert.equal(count, 2);
    wheel.advance(50_000); // More than a turn at once: every slot is looked at.
    assert.ok(count <= 4);
    wheel.advance(50_050);
    assert.ok(count >= 4);
    assert.equal(wheel.size, 1);
  });

  test("timer_wheel: within expired any other timer may be set, moved and cancelled", () => {
    const wheel = new TimerWheel(0);
    const fired: string[] = [];
    const victim = new Timer({ expired: () => fired.push("victim") });
    const moved = new Timer({ expired: (now) => fired.push(`moved ${now}`) });
    const fresh = new Timer({ expired: (now) => fired.push(`fresh ${now}`) });
    const actor = new Timer({
      expired: (now) => {
        fired.push("actor");
        wheel.cancel(victim);
        wheel.set(moved, now, 200);
        wheel.set(fresh, now, 10);
      },
    });
    // The one set last is fired first of its slot.
    for (const timer of [victim, moved, actor]) wheel.set(timer, 0, 100);
    wheel.advance(100);
    assert.deepEqual(fired, ["actor"]);
    wheel.advance(150);
    wheel.advance(300);
    assert.deepEqual(fired, ["actor", "fresh 150", "moved 300"]);
    assert.equal(wheel.size, 0);
  });

  test("timer_wheel: a clock that stands or goes back does nothing", () => {
    const wheel = new TimerWheel(1_000);
    const fired: number[] = [];
    wheel.set(note(fired), 1_000, 0);
    wheel.advance(1_000);
    wheel.advance(500);
    assert.deepEqual(fired, []);
    wheel.advance(1_050);
    assert.equal(fired.length, 1);
  });
});
