/** Runs `task` once after `delayMs`; the result cancels that. */
export type Schedule = (task: () => void, delayMs: number) => () => void;

export const systemSchedule: Schedule = (task, delayMs) => {
  const timer = setTimeout(task, delayMs);
  return () => clearTimeout(timer);
};
