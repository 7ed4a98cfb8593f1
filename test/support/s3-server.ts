// A real S3 server (Ceph's radosgw) with an empty bucket, for the tests of one file.

import { beforeAll } from "vitest";
import { type Ceph, startCeph } from "./ceph.js";
import { KEYS, S3Client } from "./s3-client.js";

export const BUCKET = "bucket";

/** For servers whose store it is. */
export const S3_ENVIRONMENT = {
  AWS_ACCESS_KEY_ID: KEYS.id,
  AWS_SECRET_ACCESS_KEY: KEYS.secret,
  AWS_EC2_METADATA_DISABLED: "true",
};

export interface S3Server {
  readonly ceph: Ceph;
  readonly url: string;
  readonly store: S3Client;
}

/** From before the file's first test until after its last. */
export function startS3(): S3Server {
  const ceph = startCeph({ s3: true });
  let store: S3Client;
  beforeAll(async () => {
    store = new S3Client(ceph.s3Port);
    await store.put(BUCKET, "");
  });
  return {
    ceph,
    get url() {
      return `http://127.0.0.1:${ceph.s3Port}`;
    },
    get store() {
      return store;
    },
  };
}
