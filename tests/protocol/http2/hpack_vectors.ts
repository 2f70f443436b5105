/** RFC 7541 appendix C: header blocks, what they decode to, and the dynamic table after each. */

export interface Step {
  readonly block: string;
  readonly fields: readonly string[];
  /** Newest first. */
  readonly table: readonly string[];
  readonly tableBytes: number;
}
export interface Example {
  readonly name: string;
  readonly tableLimit: number;
  readonly steps: readonly Step[];
}

const FIRST = [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"];
const SECOND = [...FIRST, "cache-control", "no-cache"];
const THIRD = [
  ":method",
  "GET",
  ":scheme",
  "https",
  ":path",
  "/index.html",
  ":authority",
  "www.example.com",
  "custom-key",
  "custom-value",
];
const AUTHORITY = ":authority: www.example.com";
const CACHE = "cache-control: no-cache";
const CUSTOM = "custom-key: custom-value";

const DATE_21 = "Mon, 21 Oct 2013 20:13:21 GMT";
const DATE_22 = "Mon, 21 Oct 2013 20:13:22 GMT";
const URL = "https://www.example.com";
const COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const REDIRECT = ["cache-control", "private", "date", DATE_21, "location", URL];
const FOUND = [":status", "302", ...REDIRECT];
const TEMPORARY = [":status", "307", ...REDIRECT];
const FINE = [
  ":status",
  "200",
  "cache-control",
  "private",
  "date",
  DATE_22,
  "location",
  URL,
  "content-encoding",
  "gzip",
  "set-cookie",
  COOKIE,
];
const FOUND_TABLE = [`location: ${URL}`, `date: ${DATE_21}`, "cache-control: private", ":status: 302"];
const TEMPORARY_TABLE = [":status: 307", `location: ${URL}`, `date: ${DATE_21}`, "cache-control: private"];
const FINE_TABLE = [`set-cookie: ${COOKIE}`, "content-encoding: gzip", `date: ${DATE_22}`];

export const EXAMPLES: readonly Example[] = [
  {
    name: "C.2.1 literal with indexing",
    tableLimit: 4096,
    steps: [{
      block: "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
      fields: ["custom-key", "custom-header"],
      table: ["custom-key: custom-header"],
      tableBytes: 55,
    }],
  },
  {
    name: "C.2.2 literal without indexing",
    tableLimit: 4096,
    steps: [{ block: "040c2f73616d706c652f70617468", fields: [":path", "/sample/path"], table: [], tableBytes: 0 }],
  },
  {
    name: "C.2.3 literal never indexed",
    tableLimit: 4096,
    steps: [{ block: "100870617373776f726406736563726574", fields: ["password", "secret"], table: [], tableBytes: 0 }],
  },
  {
    name: "C.2.4 indexed",
    tableLimit: 4096,
    steps: [{ block: "82", fields: [":method", "GET"], table: [], tableBytes: 0 }],
  },
  {
    name: "C.3 requests without Huffman coding",
    tableLimit: 4096,
    steps: [
      { block: "828684410f7777772e6578616d706c652e636f6d", fields: FIRST, table: [AUTHORITY], tableBytes: 57 },
      { block: "828684be58086e6f2d6361636865", fields: SECOND, table: [CACHE, AUTHORITY], tableBytes: 110 },
      {
        block: "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        fields: THIRD,
        table: [CUSTOM, CACHE, AUTHORITY],
        tableBytes: 164,
      },
    ],
  },
  {
    name: "C.4 requests with Huffman coding",
    tableLimit: 4096,
    steps: [
      { block: "828684418cf1e3c2e5f23a6ba0ab90f4ff", fields: FIRST, table: [AUTHORITY], tableBytes: 57 },
      { block: "828684be5886a8eb10649cbf", fields: SECOND, table: [CACHE, AUTHORITY], tableBytes: 110 },
      {
        block: "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        fields: THIRD,
        table: [CUSTOM, CACHE, AUTHORITY],
        tableBytes: 164,
      },
    ],
  },
  {
    name: "C.5 responses without Huffman coding, with eviction",
    tableLimit: 256,
    steps: [
      {
        block: "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54" +
          "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        fields: FOUND,
        table: FOUND_TABLE,
        tableBytes: 222,
      },
      { block: "4803333037c1c0bf", fields: TEMPORARY, table: TEMPORARY_TABLE, tableBytes: 222 },
      {
        block: "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738" +
          "666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b" +
          "2076657273696f6e3d31",
        fields: FINE,
        table: FINE_TABLE,
        tableBytes: 215,
      },
    ],
  },
  {
    name: "C.6 responses with Huffman coding, with eviction",
    tableLimit: 256,
    steps: [
      {
        block: "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff" +
          "6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        fields: FOUND,
        table: FOUND_TABLE,
        tableBytes: 222,
      },
      { block: "4883640effc1c0bf", fields: TEMPORARY, table: TEMPORARY_TABLE, tableBytes: 222 },
      {
        block: "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab" +
          "77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        fields: FINE,
        table: FINE_TABLE,
        tableBytes: 215,
      },
    ],
  },
];
