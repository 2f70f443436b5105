/** The WebSocket client of an application: the runtime's own. */
import type { Session, WebSocketOrder } from "./protocol.ts";

const OPEN_MS = 10_000;

export function openWebSocket({ url }: WebSocketOrder): Promise<Session> {
  const socket = new WebSocket(url);
  const messages: string[] = [];
  const waiting: ((text: string) => void)[] = [];
  let ended = (_: unknown) => {};
  const end = new Promise<unknown>((resolve) => ended = resolve);
  socket.onmessage = ({ data }) => {
    const next = waiting.shift();
    if (next === undefined) messages.push(String(data));
    else next(String(data));
  };
  socket.onclose = ({ code, wasClean }) => ended({ code, wasClean });
  const session: Session = {
    talk(text) {
      socket.send(text);
      return messages.length > 0 ? Promise.resolve(messages.shift()!) : Promise.race([
        new Promise<string>((resolve) => waiting.push(resolve)),
        end.then((how) => Promise.reject(new Error(`the WebSocket ended: ${JSON.stringify(how)}`))),
      ]);
    },
    end() {
      socket.close(1000);
      return end;
    },
  };
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the WebSocket is not open after ${OPEN_MS} ms`)), OPEN_MS);
    socket.onopen = () => {
      clearTimeout(timer);
      resolve(session);
    };
    socket.onerror = (event) => {
      clearTimeout(timer);
      reject(new Error(`WebSocket: ${(event as ErrorEvent).message}`));
    };
  });
}
