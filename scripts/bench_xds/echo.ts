/** The application: says back what it hears. `echo.ts PORT` prints "listening" when it does. */
import { createServer } from "node:net";
import process from "node:process";

createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
}).listen(Number(process.argv[2]), "0.0.0.0", () => console.log("listening"));
