/** Entry of the node agent's thread that watches the connections of ztunnels. */
import { runZdsThread } from "../cni/zds/thread.ts";
import { threadPort } from "../platform/thread.ts";

runZdsThread(threadPort());
